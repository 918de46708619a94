import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../../dist/common/errors.js';
import { NO_MODEL } from '../../../../dist/contracts/handler.js';
import { wideKeyOf } from '../../../../dist/contracts/model-reference.js';
import { Dispatcher } from '../../../../dist/routing/dispatcher.js';
import type { DispatcherOptions } from '../../../../dist/routing/dispatcher-options.js';
import { FakeClock } from '../../../support/fakes/fake-clock.js';
import { fakeObserver } from '../../../support/fakes/fake-observer.js';
import { FakeReplica } from '../../../support/fakes/fake-replica.js';
import { fakeModel, fakeRequest } from '../../../support/fakes/fake-requests.js';
import { flush } from '../../../support/flush.js';

const HEAVY = fakeModel('heavy');
const OTHER = fakeModel('other');
const WIDE = wideKeyOf(HEAVY.key);
const OPTIONS = { maxOngoingRequests: -1, maxQueuedRequests: -1, batching: false, cores: 2 } as const;
const RUN_MS = 10;
const WIDE_MS = 6;

let clock: FakeClock;
let dispatcher: Dispatcher<FakeReplica>;
let replicas: FakeReplica[];

function start(options: Partial<DispatcherOptions> = {}): void {
  clock = new FakeClock();
  clock.advance(1_000);
  dispatcher = new Dispatcher({ ...OPTIONS, ...options }, () => 0, clock, fakeObserver());
  replicas = [];
}

beforeEach(() => start());

function add(models = [HEAVY], maxModels = 3): FakeReplica {
  const replica = new FakeReplica(`r${replicas.length}`, maxModels, {
    modelChanged: (changed, modelKey) => dispatcher.modelChanged(changed, modelKey),
    given: () => undefined,
  });
  replica.runMs = RUN_MS;
  replica.wideMs = WIDE_MS;
  for (const { key } of models) replica.models.set(key, 'loaded');
  replicas.push(replica);
  dispatcher.addReplica(replica);
  for (const { key } of models) dispatcher.modelChanged(replica, key);
  return replica;
}

/** Requests at the same time, which are all answered. */
async function ask(model = HEAVY, requests = 1): Promise<void> {
  const answers = Array.from({ length: requests }, () => dispatcher.submit(fakeRequest(model), () => undefined));
  await flush();
  clock.advance(RUN_MS);
  for (let step = 0; step < 2 * requests; step += 1) {
    for (const replica of replicas) if (replica.dispatches > 0) replica.step();
    await flush();
  }
  await Promise.all(answers);
}

async function askOften(times: number): Promise<void> {
  for (let time = 0; time < times; time += 1) await ask();
}

/** Lone requests until the wide session is ordered, and then loaded. */
async function loadWide(): Promise<FakeReplica> {
  await askOften(30);
  const place = replicas.find(({ models }) => models.has(WIDE)) as FakeReplica;
  expect(place.models.get(WIDE)).toBe('loading');
  place.step();
  await flush();
  return place;
}

it('lone requests load a wide session in an idle replica, and run there', async () => {
  const [first, second] = [add(), add([])];
  await askOften(30);
  expect(first.ran).toHaveLength(30);
  expect(second.models.get(WIDE)).toBe('loading');
  // Nobody waits for it.
  await askOften(3);
  expect(first.ran).toHaveLength(33);
  second.step();
  await flush();
  await askOften(20);
  expect(second.ran).toEqual(Array(20).fill(WIDE));
});

it('a replica that serves the model, too, is preferred, as long as it is not the only one', async () => {
  const [first, cold, warm] = [add(), add([]), add()];
  expect(await loadWide()).toBe(warm);
  expect([first, cold].some(({ models }) => models.has(WIDE))).toBe(false);
});

describe('a request runs narrow', () => {
  it('beside another request', async () => {
    const [first, second] = [add(), add()];
    const wide = await loadWide();
    const other = wide === first ? second : first;
    const before = other.ran.length;
    await ask(HEAVY, 2);
    await ask(HEAVY, 2);
    expect(wide.ran).toEqual([WIDE, WIDE]);
    expect(other.ran.slice(before)).toEqual([HEAVY.key, HEAVY.key]);
  });

  it('when a replica of another deployment has work', async () => {
    add();
    add();
    const wide = await loadWide();
    wide.othersAtWork = 1;
    await askOften(5);
    expect(wide.ran).not.toContain(WIDE);
    wide.othersAtWork = 0;
    await ask();
    expect(wide.ran).toContain(WIDE);
  });

  it('after it lost a replica', async () => {
    const [first, second] = [add(), add()];
    const wide = await loadWide();
    const other = wide === first ? second : first;
    const answer = dispatcher.submit(fakeRequest(HEAVY), () => undefined);
    await flush();
    expect(wide.dispatches).toBe(1);
    wide.crash((crash) => dispatcher.removeReplica(wide, crash));
    replicas.splice(replicas.indexOf(wide), 1);
    await flush();
    other.step();
    await answer;
    expect(other.ran.at(-1)).toBe(HEAVY.key);
  });

  it('when wide runs turn out not to be clearly faster, and the session leaves', async () => {
    add();
    add();
    const wide = await loadWide();
    wide.wideMs = 9;
    await askOften(20);
    expect(wide.ran.filter((key) => key === WIDE)).toHaveLength(10);
    expect(wide.models.has(WIDE)).toBe(false);
    await askOften(300);
    expect(wide.loads.filter((key) => key === WIDE)).toHaveLength(1);
  });
});

describe('few requests of one model', () => {
  const CORES = 8;
  let wide: FakeReplica;
  let others: FakeReplica[];

  /** Callers that ask again when they have their answer; all replicas step at the end of a run. */
  async function call(callers: number, rounds: number): Promise<void> {
    let left = callers * rounds;
    const caller = async () => {
      while (left > 0) {
        left -= 1;
        await dispatcher.submit(fakeRequest(HEAVY), () => undefined);
      }
    };
    const all = Promise.all(Array.from({ length: callers }, caller));
    let isOver = false;
    void all.then(() => {
      isOver = true;
    });
    while (!isOver) {
      await flush();
      clock.advance(replicas.some(({ running }) => running === WIDE) ? WIDE_MS : RUN_MS);
      for (const replica of replicas) if (replica.dispatches > 0) replica.step();
    }
  }

  beforeEach(async () => {
    start({ cores: CORES });
    for (let count = 0; count < 4; count += 1) {
      const replica = add();
      replica.wideMs = 2;
      const isOtherAtWork = (other: FakeReplica) => other !== replica && other.dispatches > 0;
      Object.defineProperty(replica, 'othersAtWork', { get: () => replicas.filter(isOtherAtWork).length });
    }
    wide = await loadWide();
    others = replicas.filter((replica) => replica !== wide);
    await askOften(15);
    expect(wide.ran.slice(-15)).toEqual(Array(15).fill(WIDE));
  });

  const ran = () => replicas.reduce((sum, replica) => sum + replica.ran.length, 0);
  const ranWide = () => wide.ran.filter((key) => key === WIDE).length;

  it('take turns on the wide session, once narrow runs beside each other have been measured', async () => {
    await call(2, 30);
    const [before, wideBefore] = [ran(), ranWide()];
    await call(2, 50);
    expect([ran() - before, ranWide() - wideBefore]).toEqual([100, 100]);
  });

  it('run narrow when they are too many', async () => {
    await call(2, 30);
    const before = ranWide();
    await call(8, 50);
    // The first one is alone, and the last ones are few.
    expect(ranWide() - before).toBeLessThan(10);
  });

  it('do not wait for a wide run that takes much longer than expected', async () => {
    await call(2, 30);
    const answers = [HEAVY, HEAVY, HEAVY].map((model) => dispatcher.submit(fakeRequest(model), () => undefined));
    await flush();
    expect([wide.dispatches, dispatcher.queued]).toEqual([1, 2]);
    clock.advance(10 * WIDE_MS);
    await flush();
    // One was given ahead.
    expect([wide.dispatches, dispatcher.queued]).toEqual([2, 0]);
    for (const other of others) if (other.dispatches > 0) other.step();
    await answers[2];
    for (let step = 0; step < 2; step += 1) wide.step();
    await Promise.all(answers);
  });

  it('are all answered when the replica dies that they wait for', async () => {
    await call(2, 30);
    const answers = [HEAVY, HEAVY].map((model) => dispatcher.submit(fakeRequest(model), () => undefined));
    await flush();
    expect(dispatcher.queued).toBe(1);
    wide.crash((crash) => dispatcher.removeReplica(wide, crash));
    for (let step = 0; step < 3; step += 1) {
      await flush();
      for (const replica of others) if (replica.dispatches > 0) replica.step();
    }
    await Promise.all(answers);
    expect(others.flatMap(({ ran: keys }) => keys)).not.toContain(WIDE);
  });

  it('do not wait for each other while a replica of another deployment has work', async () => {
    await call(2, 30);
    for (const replica of replicas) Object.defineProperty(replica, 'othersAtWork', { get: () => 3 });
    const before = ranWide();
    const answers = [HEAVY, HEAVY].map((model) => dispatcher.submit(fakeRequest(model), () => undefined));
    await flush();
    expect([replicas.filter(({ dispatches }) => dispatches > 0).length, dispatcher.queued]).toEqual([2, 0]);
    for (const replica of replicas) if (replica.dispatches > 0) replica.step();
    await Promise.all(answers);
    expect(ranWide()).toBe(before);
  });

  it('do not wait for a run of another model whose request was cancelled', async () => {
    await call(2, 30);
    for (let time = 0; time < 3; time += 1) await ask(OTHER);
    const controller = new AbortController();
    const cancelled = dispatcher.submit({ ...fakeRequest(OTHER), signal: controller.signal }, () => undefined);
    await flush();
    controller.abort();
    await expect(cancelled).rejects.toMatchObject({ code: 'CANCELLED' });
    const answers = [HEAVY, HEAVY].map((model) => dispatcher.submit(fakeRequest(model), () => undefined));
    await flush();
    expect(dispatcher.queued).toBe(0);
    for (let step = 0; step < 3; step += 1) for (const replica of replicas) replica.step();
    await Promise.all(answers);
  });

  it('run beside each other again when the replica with the wide session has left', async () => {
    await call(2, 30);
    dispatcher.removeReplica(wide);
    replicas.splice(replicas.indexOf(wide), 1);
    for (let time = 0; time < 30; time += 1) {
      const answers = [HEAVY, HEAVY].map((model) => dispatcher.submit(fakeRequest(model), () => undefined));
      await flush();
      expect(dispatcher.queued).toBe(0);
      clock.advance(RUN_MS);
      for (const replica of replicas) if (replica.running === HEAVY.key) replica.step();
      await Promise.all(answers);
    }
  });

  it('run narrow beside a request of another model', async () => {
    await call(2, 30);
    const other = dispatcher.submit(fakeRequest(OTHER), () => undefined);
    await flush();
    const before = ranWide();
    const answers = [HEAVY, HEAVY].map((model) => dispatcher.submit(fakeRequest(model), () => undefined));
    for (let step = 0; step < 4; step += 1) {
      await flush();
      for (const replica of replicas) if (replica.dispatches > 0) replica.step();
    }
    await Promise.all([other, ...answers]);
    expect(ranWide()).toBe(before);
  });
});

describe('no wide session is loaded', () => {
  it.each([
    ['with one core', { cores: 1 }],
    ['when the number of threads is named', { session: { intraOpNumThreads: 1 } }],
    ['when the session says how threads behave', { session: { extra: { session: { 'session.intra_op.x': '1' } } } }],
    ['beside a device', { session: { executionProviders: ['webgpu', 'cpu'] } }],
    ['with a router that goes by requests', { router: 'round-robin' }],
    ['in strict order of arrival', { order: 'fifo' }],
  ] as const)('%s', async (_, options) => {
    start(options);
    add();
    add();
    await askOften(200);
    expect(replicas.flatMap(({ models }) => [...models.keys()])).not.toContain(WIDE);
  });

  it('for short runs', async () => {
    add().runMs = 0.9;
    add([]);
    await askOften(3_000);
    expect(replicas.flatMap(({ models }) => [...models.keys()])).not.toContain(WIDE);
  });

  it('for short runs of which one in a hundred is held up', async () => {
    const only = add();
    add([]);
    for (let time = 0; time < 3_000; time += 1) {
      only.runMs = time % 100 === 0 ? 5 : 0.3;
      await ask();
    }
    expect(replicas.flatMap(({ models }) => [...models.keys()])).not.toContain(WIDE);
  });

  it('for a model that a handler was asked for, by the times of the handler', async () => {
    add();
    add([]);
    const payload = {
      value: 1,
      abandoned: undefined,
      path: ['app'],
      isShadow: false,
      deadline: undefined,
      stream: undefined,
      terms: undefined,
    };
    for (let time = 0; time < 200; time += 1) {
      const answer = dispatcher.submit({ ...fakeRequest(HEAVY), payload }, () => undefined);
      await flush();
      clock.advance(RUN_MS);
      for (const replica of replicas) if (replica.dispatches > 0) replica.step();
      await answer;
    }
    expect(replicas.flatMap(({ models }) => [...models.keys()])).not.toContain(WIDE);
  });

  it('for a model whose settings name the number of threads', async () => {
    const model = { ...HEAVY, session: { intraOpNumThreads: 2 } };
    add();
    add();
    for (let time = 0; time < 200; time += 1) await ask(model);
    expect(replicas.flatMap(({ models }) => [...models.keys()])).not.toContain(WIDE);
  });

  it('where another session would have to leave for it', async () => {
    add();
    const full = add([OTHER], 1);
    await askOften(200);
    expect(full.models.has(WIDE)).toBe(false);
  });

  it('by a replica that has just worked for another model', async () => {
    add();
    const other = add([OTHER]);
    for (let time = 0; time < 100; time += 1) {
      await ask(OTHER);
      await ask(HEAVY);
    }
    expect(other.models.has(WIDE)).toBe(false);
    await askOften(30);
    expect(other.models.get(WIDE)).toBe('loading');
  });
});

it('the only replica loads it after a pause', async () => {
  const only = add();
  await askOften(100);
  expect(only.models.has(WIDE)).toBe(false);
  clock.advance(99);
  expect(only.models.has(WIDE)).toBe(false);
  clock.advance(1);
  expect(only.models.get(WIDE)).toBe('loading');
  only.step();
  await flush();
  await askOften(5);
  expect(only.ran.slice(-5)).toEqual(Array(5).fill(WIDE));
});

it('a load that fails is not tried again for a while', async () => {
  add();
  const place = add([]);
  let loads = 0;
  place.load = () => {
    loads += 1;
    return Promise.reject(new InfermuxError('MODEL_LOAD_FAILED', 'no memory'));
  };
  await askOften(500);
  expect(loads).toBe(1);
  clock.advance(10_000);
  await askOften(100);
  expect(loads).toBe(2);
});

it('a wide session leaves no less room: a copy of another model may take its place', async () => {
  add([HEAVY, OTHER]);
  const place = add([], 1);
  await loadWide();
  for (let time = 0; time < 1_500; time += 1) await ask(OTHER);
  expect(place.models.get(OTHER.key)).toBe('loading');
  place.step();
  expect(place.evictions).toEqual([WIDE]);
});

it('a lone request of a handler goes where the models that it runs are wide', async () => {
  const [first, second] = [add([fakeModel(NO_MODEL)]), add([fakeModel(NO_MODEL)])];
  const handler = { ...fakeModel(NO_MODEL), key: NO_MODEL };
  for (const replica of replicas) {
    replica.models.set(NO_MODEL, 'loaded');
    dispatcher.modelChanged(replica, NO_MODEL);
  }
  for (let time = 0; time < 30; time += 1) {
    await ask(handler);
    const ranOn = first.ran.length > 0 ? first : second;
    dispatcher.handled.ran(ranOn, HEAVY, { key: HEAVY.key, rows: 1, runMs: RUN_MS });
  }
  const [busy, idle] = first.ran.length > 0 ? [first, second] : [second, first];
  expect(idle.models.get(WIDE)).toBe('loading');
  const before = busy.ran.length;
  await ask(handler);
  expect(busy.ran).toHaveLength(before + 1);
  idle.step();
  await flush();
  await ask(handler);
  expect(idle.ran).toEqual([NO_MODEL]);
});

it('a change of other options leaves wide sessions in use, and settings for sessions end them', async () => {
  add();
  add();
  const wide = await loadWide();
  await askOften(15);
  dispatcher.configure({ ...OPTIONS, maxQueuedRequests: 10 });
  await ask();
  expect(wide.ran.at(-1)).toBe(WIDE);
  dispatcher.configure({ ...OPTIONS, session: { intraOpNumThreads: 1 } });
  await askOften(50);
  expect(wide.ran.filter((key) => key === WIDE)).toHaveLength(16);
});
