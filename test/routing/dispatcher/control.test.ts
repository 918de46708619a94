import { beforeEach, describe, expect, it } from 'vitest';
import type { InfermuxError } from '../../../dist/common/errors.js';
import { Dispatcher } from '../../../dist/routing/dispatcher.js';
import type { RoutedRequest } from '../../../dist/routing/pending-request.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';
import { fakeObserver } from '../../support/fakes/fake-observer.js';
import { FakeReplica } from '../../support/fakes/fake-replica.js';
import { fakeModel, fakeRequest } from '../../support/fakes/fake-requests.js';
import { flush } from '../../support/flush.js';

const A = fakeModel('a');
const B = fakeModel('b');
const OPTIONS = { maxOngoingRequests: 1, maxQueuedRequests: 8, batching: 'auto' } as const;

let clock: FakeClock;
let dispatcher: Dispatcher<FakeReplica>;
let accepted: boolean[];
let failures: string[];

function setUp(defers = false): void {
  clock = new FakeClock({ defers });
  accepted = [];
  failures = [];
  const observer = fakeObserver({
    accepted: ({ isShadow }) => accepted.push(isShadow),
    failed: (_, { code }, isShadow) => failures.push(`${code}${isShadow ? ' of a shadow' : ''}`),
  });
  dispatcher = new Dispatcher(OPTIONS, () => 0, clock, observer);
}

beforeEach(() => setUp());

function addReplica(id = 'r0'): FakeReplica {
  const replica = new FakeReplica(id, 3, {
    modelChanged: (changed, modelKey) => dispatcher.modelChanged(changed, modelKey),
    given: () => undefined,
  });
  dispatcher.addReplica(replica);
  return replica;
}

const submit = (model = A, terms: Partial<RoutedRequest> = {}) =>
  dispatcher.submit({ ...fakeRequest(model), ...terms }, () => 'answered').catch(({ code }: InfermuxError) => code);
const shadow = { isShadow: true, priority: Number.MIN_SAFE_INTEGER };

async function work(...replicas: FakeReplica[]): Promise<void> {
  while (replicas.some((replica) => replica.step())) await flush();
}

describe('a copy of a request', () => {
  it('goes behind all others, and never in one dispatch with them', async () => {
    setUp(true);
    const replica = addReplica();
    dispatcher.configure({ ...OPTIONS, maxOngoingRequests: -1 });
    replica.runMs = 0.01;
    const first = submit();
    clock.runDeferred();
    await Promise.all([first, work(replica)]);
    const order: string[] = [];
    const copies = [submit(A, shadow), submit(A, shadow)].map((copy) => copy.then(() => order.push('copy')));
    const others = [submit(), submit()].map((other) => other.then(() => order.push('other')));
    clock.runDeferred();
    // All would go in one, were they not copies.
    expect(replica.dispatches).toBe(2);
    while (replica.step()) {
      await flush();
      clock.runDeferred();
    }
    await Promise.all([...copies, ...others]);
    expect(order).toEqual(['other', 'other', 'copy', 'copy']);
  });

  it('goes behind what comes in the same turn, though it came first, and is of another model', async () => {
    setUp(true);
    const given: string[] = [];
    const replica = new FakeReplica('r0', 3, {
      modelChanged: (changed, modelKey) => dispatcher.modelChanged(changed, modelKey),
      given: (_, { model }) => given.push(model.id),
    });
    dispatcher.addReplica(replica);
    const calls = [submit(B, shadow), submit(A)];
    clock.runDeferred();
    expect(given).toEqual(['a']);
    while (replica.step()) {
      await flush();
      clock.runDeferred();
    }
    expect(await Promise.all(calls)).toEqual(['answered', 'answered']);
  });

  it('is dropped when half of the places to wait are taken, and the others have all of them', async () => {
    const copies = Array.from({ length: 6 }, () => submit(A, shadow));
    await flush();
    expect(dispatcher.queued).toBe(4);
    const others = Array.from({ length: 9 }, () => submit());
    await flush();
    expect(dispatcher.queued).toBe(8);
    expect(failures).toEqual([...Array(6).fill('QUEUE_FULL of a shadow'), 'QUEUE_FULL']);
    // What was dropped at once was never accepted.
    expect(accepted.filter((isShadow) => isShadow)).toHaveLength(4);
    await work(addReplica());
    expect(await Promise.all(copies)).toEqual(Array(6).fill('QUEUE_FULL'));
    expect(await Promise.all(others)).toEqual([...Array(8).fill('answered'), 'QUEUE_FULL']);
  });

  it('is accepted where it does not have to wait, though nothing may', async () => {
    dispatcher.configure({ ...OPTIONS, maxQueuedRequests: 0 });
    const replica = addReplica();
    const copy = submit(A, shadow);
    await work(replica);
    expect(await copy).toBe('answered');
  });

  it('does not hold up a close', async () => {
    const copy = submit(A, shadow);
    const other = submit();
    dispatcher.close({ code: 'ENGINE_CLOSED', message: 'closing', retryable: false } as InfermuxError);
    expect(await copy).toBe('ENGINE_CLOSED');
    expect(dispatcher.isIdle).toBe(false);
    await work(addReplica());
    expect(await other).toBe('answered');
    expect(dispatcher.isIdle).toBe(true);
  });
});

describe('a request whose replica died', () => {
  it('runs alone: nothing is given beside it that could end its replica too', async () => {
    dispatcher.configure({ ...OPTIONS, maxOngoingRequests: -1 });
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    for (const replica of [first, second]) replica.runMs = 0.01;
    for (const model of [A, B]) await Promise.all([submit(model), submit(model), work(first, second)]);
    await Promise.all([submit(), submit(), submit(), work(first, second)]);
    const lost = submit();
    await flush();
    const dead = first.ongoing > 0 ? first : second;
    const other = dead === first ? second : first;
    const before = submit(B);
    await flush();
    dead.crash((crash) => dispatcher.removeReplica(dead, crash));
    await flush();
    const after = [submit(B), submit(A)];
    await flush();
    while (other.step()) {
      await flush();
      // One dispatch at a time as long as it waits or runs.
      if (dispatcher.queued > 0) expect(other.dispatches).toBeLessThanOrEqual(1);
    }
    expect(await Promise.all([lost, before, ...after])).toEqual(Array(4).fill('answered'));
  });

  it('has lost nothing if it had not begun', async () => {
    dispatcher.configure({ ...OPTIONS, maxOngoingRequests: -1 });
    const crash = async (replica: FakeReplica) => {
      replica.crash((cause) => dispatcher.removeReplica(replica, cause));
      await flush();
    };
    const warm = async (id: string) => {
      const replica = addReplica(id);
      replica.runMs = 0.01;
      await Promise.all([submit(), work(replica)]);
      return replica;
    };
    const first = await warm('r0');
    await Promise.all([submit(), work(first)]);
    const running = submit();
    await flush();
    const prefetched = submit(A, { outputs: ['other'] });
    await flush();
    expect(first.dispatches).toBe(2);
    await crash(first);
    // What had begun is run alone, and ends the next one too.
    const second = addReplica('r1');
    second.step();
    await flush();
    expect(second.ongoing).toBe(1);
    await crash(second);
    expect(await running).toBe('REPLICA_FAILED');
    // What had not has its two attempts before it.
    const third = addReplica('r2');
    third.step();
    await flush();
    await crash(third);
    await work(addReplica('r3'));
    expect(await prefetched).toBe('answered');
  });
});

describe('other limits', () => {
  it('are in force at once, for what waits too', async () => {
    const replica = addReplica();
    replica.runMs = 0.01;
    await Promise.all([submit(), work(replica)]);
    const calls = Array.from({ length: 6 }, () => submit());
    await flush();
    expect(replica.ongoing).toBe(1);
    dispatcher.configure({ ...OPTIONS, maxOngoingRequests: -1, maxQueuedRequests: 2 });
    await flush();
    expect(replica.dispatches).toBe(2);
    await work(replica);
    expect(await Promise.all(calls)).toEqual(Array(6).fill('answered'));
  });

  it('batching is switched off and on again', async () => {
    const metadata = {
      inputs: [{ name: 'x', type: 'float32', shape: ['N'] }],
      outputs: [{ name: 'y', type: 'float32', shape: ['N'] }],
    } as const;
    const feeds = { x: { type: 'float32', dims: [1], data: Float32Array.of(1) } } as const;
    const unlimited = { ...OPTIONS, maxOngoingRequests: -1, maxQueuedRequests: -1 };
    const joined: boolean[] = [];
    const replica = new FakeReplica('r0', 3, {
      modelChanged: (changed, modelKey) => dispatcher.modelChanged(changed, modelKey),
      given: (_, { groups }) => joined.push(...groups.map((group) => group.joined)),
    });
    dispatcher.configure(unlimited);
    dispatcher.addReplica(replica);
    dispatcher.modelLoaded(replica, A, 1, metadata as never);
    await Promise.all([submit(A, { feeds }), work(replica)]);
    for (const batching of ['auto', false, { maxWaitMs: 5 }, false] as const) {
      dispatcher.configure({ ...unlimited, batching });
      joined.length = 0;
      const calls = Array.from({ length: 4 }, () => submit(A, { feeds }));
      await flush();
      // What waits for company has it by then.
      clock.advance(5);
      await work(replica);
      expect(await Promise.all(calls)).toEqual(Array(4).fill('answered'));
      expect(joined.includes(true)).toBe(batching !== false);
    }
  });
});

it('an outage ends when there is hope, though no replica runs yet', async () => {
  dispatcher.declareOutage({ code: 'REPLICA_FAILED', message: 'none', retryable: true } as InfermuxError);
  expect(await submit()).toBe('REPLICA_FAILED');
  dispatcher.endOutage();
  const waiting = submit();
  await work(addReplica());
  expect(await waiting).toBe('answered');
});

it('tells which models are in use', async () => {
  const replica = addReplica();
  expect(dispatcher.isInUse(A.key)).toBe(false);
  await Promise.all([submit(), work(replica)]);
  expect([dispatcher.isInUse(A.key), dispatcher.isInUse(B.key)]).toEqual([true, false]);
  clock.advance(61_000);
  expect(dispatcher.isInUse(A.key)).toBe(false);
});
