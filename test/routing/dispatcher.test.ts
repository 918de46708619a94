import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../dist/common/errors.js';
import { Dispatcher } from '../../dist/routing/dispatcher.js';
import type { RoutedRequest } from '../../dist/routing/pending-request.js';
import { FakeClock, FakeReplica, fakeModel, fakeObserver, fakeRequest, flush } from '../support/fakes.js';

const A = fakeModel('a');
const B = fakeModel('b');
const C = fakeModel('c');

/** A run that does not end as long as a test goes on. */
const STUCK_MS = 1e9;

let clock: FakeClock;
let dispatcher: Dispatcher<FakeReplica>;
let holds: number;
let given: string[];

function setUp({
  maxOngoingRequests = 2,
  maxQueuedRequests = 300,
  defers = false,
  lookAfterRequests = 256,
} = {}): void {
  clock = new FakeClock({ defers });
  holds = 0;
  given = [];
  const observer = fakeObserver({
    busy: () => {
      holds += 1;
    },
    idle: () => {
      holds -= 1;
    },
  });
  const options = { maxOngoingRequests, maxQueuedRequests, batching: 'auto', lookAfterRequests } as const;
  dispatcher = new Dispatcher(options, () => 0, clock, observer);
}

function addReplica(id: string, maxModels = 3): FakeReplica {
  const replica = new FakeReplica(id, maxModels, {
    modelChanged: (changed, modelKey) => dispatcher.modelChanged(changed, modelKey),
    given: (to, { model }) => given.push(`${model.id}>${to.id}`),
  });
  dispatcher.addReplica(replica);
  return replica;
}

function submit(model = A, terms: Partial<RoutedRequest> = {}) {
  const answer = dispatcher.submit({ ...fakeRequest(model), ...terms }, (result) => ({ ...result }));
  answer.catch(() => undefined);
  return answer;
}

async function work(...replicas: FakeReplica[]): Promise<void> {
  for (let busy = true; busy; ) {
    busy = false;
    for (const replica of replicas) busy = replica.step() || busy;
    await flush();
  }
}

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'answered',
    (error: InfermuxError) => error.code,
  );

beforeEach(() => setUp());

describe('binding', () => {
  it('loads a model once for a burst of first requests', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    const answers = Array.from({ length: 200 }, () => submit(A));
    await work(first, second);
    await Promise.all(answers);
    expect([...first.loads, ...second.loads]).toEqual(['a@1']);
  });

  it('gives a replica that loads nothing else until the load has ended', async () => {
    const replica = addReplica('r0');
    submit(A);
    submit(B);
    expect(given).toEqual(['a>r0']);
    replica.step();
    expect(given).toEqual(['a>r0']);
    await work(replica);
    expect(given).toEqual(['a>r0', 'b>r0']);
  });

  it('prefers a warm replica to a cold idle one', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    submit(A);
    await work(first, second);
    submit(A);
    await work(first, second);
    expect(given).toEqual(['a>r0', 'a>r0']);
  });

  it('puts a second model on the replica with the fewest models', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    submit(A);
    await work(first, second);
    submit(B);
    await work(first, second);
    expect(given).toEqual(['a>r0', 'b>r1']);
  });

  it('prefetches a second request only when runs are short', async () => {
    const replica = addReplica('r0');
    submit(A);
    await work(replica);
    for (let request = 0; request < 3; request += 1) submit(A);
    expect(replica.ongoing).toBe(2);

    setUp();
    const slow = addReplica('slow');
    slow.runMs = 50;
    submit(A);
    await work(slow);
    for (let request = 0; request < 3; request += 1) submit(A);
    expect(slow.ongoing).toBe(1);
  });

  it.each([
    [60, 2],
    [30, 1],
  ])('after a load of %i ms gives %i that take 50 ms each', async (loadMs, ongoing) => {
    const replica = addReplica('r0', 1);
    replica.runMs = 50;
    submit(A);
    await work(replica);
    submit(B);
    await work(replica);
    submit(A);
    submit(A);
    expect(replica.ongoing).toBe(1);
    clock.advance(loadMs);
    replica.step();
    expect([replica.models.get(A.key), replica.ongoing]).toEqual(['loaded', ongoing]);
    // What is given ahead waits no longer than a load takes.
    clock.advance(20);
    expect(replica.ongoing).toBe(2);
  });

  it('never gives more than maxOngoingRequests', async () => {
    setUp({ maxOngoingRequests: 1 });
    const replica = addReplica('r0');
    submit(A);
    await work(replica);
    for (let request = 0; request < 3; request += 1) submit(A);
    expect(replica.ongoing).toBe(1);
  });

  it('serves what waits when a replica is added', async () => {
    const answer = submit(A);
    expect(given).toEqual([]);
    await work(addReplica('late'));
    await expect(answer).resolves.toMatchObject({ replica: 'late' });
  });
});

describe('spilling', () => {
  it('loads the model on a cold replica once the wait has cost a load', async () => {
    const [first] = [addReplica('r0'), addReplica('r1')];
    first.runMs = 1_000;
    submit(A);
    await work(first);
    dispatcher.modelLoaded(first, A, 30, { inputs: [], outputs: [] });
    submit(A);
    submit(A);
    expect(given).toEqual(['a>r0', 'a>r0']);
    clock.advance(29);
    expect(given).toHaveLength(2);
    clock.advance(1);
    expect(given).toEqual(['a>r0', 'a>r0', 'a>r1']);
  });

  it('takes idle capacity only: a busy replica serves its own models first', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    for (const replica of [first, second]) replica.runMs = 1_000;
    submit(A);
    await work(first, second);
    submit(B);
    await work(first, second);
    given.length = 0;
    for (const model of [A, A, B, B]) submit(model);
    clock.advance(500);
    expect(given).toEqual(['a>r0', 'b>r1']);
    second.step();
    await flush();
    // The waiting request for a is older, but a would have to be loaded here.
    expect(given).toEqual(['a>r0', 'b>r1', 'b>r1']);
    second.step();
    await flush();
    expect(given).toEqual(['a>r0', 'b>r1', 'b>r1', 'a>r1']);
  });

  it('gives a model its turn elsewhere when its replicas are as good as stuck', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    for (const replica of [first, second]) replica.runMs = STUCK_MS;
    submit(A);
    await work(first, second);
    submit(B);
    await work(first, second);
    given.length = 0;
    for (const model of [A, A, B, B]) submit(model);
    clock.advance(1_000);
    second.step();
    await flush();
    expect(given).toEqual(['a>r0', 'b>r1', 'a>r1']);
  });

  it('spills to a replica that is added after the wait has cost a load', async () => {
    const first = addReplica('r0');
    first.runMs = STUCK_MS;
    submit(A);
    await work(first);
    submit(A);
    submit(A);
    clock.advance(1_000);
    given.length = 0;
    addReplica('late');
    expect(given).toEqual(['a>late']);
  });

  it('goes by the request that waits longest, whatever the priority of the first', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    for (const replica of [first, second]) replica.runMs = STUCK_MS;
    submit(A);
    await work(first, second);
    submit(B);
    await work(first, second);
    for (const model of [A, B]) submit(model);
    submit(A, { priority: -1 });
    clock.advance(1_000);
    submit(A, { priority: 1 });
    given.length = 0;
    second.step();
    await flush();
    expect(given).toEqual(['a>r1']);
  });

  it('lets the next request take the idle replica that the cancelled one before it could not', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    first.runMs = STUCK_MS;
    submit(A);
    await work(first, second);
    submit(A);
    const controller = new AbortController();
    clock.advance(1_000);
    submit(A, { signal: controller.signal });
    submit(A);
    given.length = 0;
    controller.abort();
    clock.advance(3);
    expect(given).toEqual(['a>r1']);
  });

  it('starts no timer when every replica has the model', async () => {
    const replica = addReplica('r0');
    submit(A);
    await work(replica);
    for (let request = 0; request < 3; request += 1) submit(A);
    expect({ queued: dispatcher.queued, timers: clock.timers }).toEqual({ queued: 1, timers: 0 });
  });
});

describe('order', () => {
  it('serves a model by priority, then by arrival', async () => {
    const replica = addReplica('r0', 1);
    replica.runMs = 100;
    const order: string[] = [];
    const track = (name: string, priority: number) => submit(A, { priority }).then(() => order.push(name));
    const answers = [track('running', 0), track('low', -1), track('first', 0), track('high', 5), track('second', 0)];
    await work(replica);
    await Promise.all(answers);
    expect(order).toEqual(['running', 'high', 'first', 'second', 'low']);
  });

  it('serves the model whose request is oldest when several wait for the same replica', async () => {
    setUp({ maxOngoingRequests: 1 });
    const replica = addReplica('r0');
    for (const model of [A, B, C]) submit(model);
    await work(replica);
    given.length = 0;
    for (const model of [C, A, B, A]) submit(model);
    await work(replica);
    expect(given).toEqual(['c>r0', 'a>r0', 'b>r0', 'a>r0']);
  });
});

it('serves all that waited for a model when it was loaded before it turns to others, and no more', async () => {
  const replica = addReplica('r0', 1);
  replica.runMs = 5;
  for (const model of [A, B, B, C, B]) submit(model);
  await work(replica);
  expect(given).toEqual(['a>r0', 'b>r0', 'b>r0', 'b>r0', 'c>r0']);

  given.length = 0;
  // The load is ordered for the first of these; the others for a came later and wait their turn.
  for (const model of [A, C, A, A]) submit(model);
  await work(replica);
  expect(given).toEqual(['a>r0', 'c>r0', 'a>r0', 'a>r0']);
});

it('gives a slot to the model that waited for it longest, even when the next call comes before its answer', async () => {
  const replica = addReplica('r0');
  for (const model of [A, B]) submit(model);
  await work(replica);
  replica.runMs = 50;
  submit(A);
  await work(replica);
  given.length = 0;
  submit(A);
  const waiting = submit(B);
  for (let round = 0; round < 3; round += 1) {
    // The thread is done, which the counters show, but the answer has not been handled when the caller calls again.
    replica.step();
    submit(A);
  }
  expect(given.slice(0, 2)).toEqual(['a>r0', 'b>r0']);
  await work(replica);
  await waiting;
});

it('gives a replica more when it is done, while a caller sends many requests without a pause', async () => {
  setUp({ maxOngoingRequests: 100, maxQueuedRequests: -1, defers: true });
  const replica = addReplica('r0');
  const answers: Promise<unknown>[] = [];
  // Nothing is awaited here and nothing that was put off is run: no answer is handled before the last request is sent.
  for (let request = 0; request < 2_560; request += 1) {
    answers.push(submit(A));
    while (replica.step());
  }
  expect(given).toHaveLength(10);
  let answered = 0;
  for (const answer of answers) answer.finally(() => (answered += 1));
  for (let rounds = 0; rounds < 2 * answers.length && answered < answers.length; rounds += 1) {
    clock.runDeferred();
    replica.step();
    await flush();
  }
  expect(answered).toBe(answers.length);
});

it('looks at all replicas and models then, not only at those of the last request', async () => {
  setUp({ maxOngoingRequests: 100, maxQueuedRequests: -1, defers: true });
  const replicas = [addReplica('r0'), addReplica('r1')];
  const answers: Promise<unknown>[] = [];
  for (let request = 0; request < 2_560; request += 1) {
    answers.push(submit(request % 2 === 0 ? A : B));
    for (const replica of replicas) while (replica.step());
  }
  const [ofA, ofB] = ['a>', 'b>'].map((model) => given.filter((line) => line.startsWith(model)).length);
  expect(ofA).toBeGreaterThanOrEqual(9);
  expect(ofB).toBeGreaterThanOrEqual(9);
  dispatcher.destroy(new InfermuxError('ENGINE_CLOSED', 'the test is over'));
  await Promise.allSettled(answers);
});

it('does not take callers who ask again for one that sends without a pause, so that a turn stays over', async () => {
  setUp({ maxQueuedRequests: -1, defers: true, lookAfterRequests: 4 });
  const replica = addReplica('r0');
  submit(A);
  clock.runDeferred();
  while (replica.step());
  await flush();
  expect(given).toEqual(['a>r0']);
  // The turn that began with the answer is over, and what comes now is for the next.
  clock.advance(2);
  for (let request = 0; request < 4; request += 1) submit(A);
  expect(given).toEqual(['a>r0']);
  // One more than the answered one and four.
  submit(A);
  expect(given.length).toBeGreaterThan(1);
  dispatcher.destroy(new InfermuxError('ENGINE_CLOSED', 'the test is over'));
});

it('does not let prefetched requests for a warm model keep out an older one for a cold model', async () => {
  const replica = addReplica('r0');
  submit(A);
  await work(replica);
  submit(A);
  submit(A);
  expect(replica.ongoing).toBe(2);
  submit(B);
  for (let request = 0; request < 5; request += 1) submit(A);
  given.length = 0;
  await work(replica);
  expect(given.slice(0, 2)).toEqual(['b>r0', 'a>r0']);
});

describe('cancel and deadline', () => {
  it('rejects a waiting request at once and lets it leave the queue', async () => {
    const controller = new AbortController();
    const answer = submit(A, { signal: controller.signal });
    expect(dispatcher.queued).toBe(1);
    controller.abort('enough');
    await expect(answer).rejects.toMatchObject({ code: 'CANCELLED', cause: 'enough' });
    expect(dispatcher.queued).toBe(0);
    expect(holds).toBe(0);
  });

  it('rejects a running request at once and ends it unseen', async () => {
    const replica = addReplica('r0');
    const controller = new AbortController();
    const answer = submit(A, { signal: controller.signal });
    controller.abort();
    expect(await codeOf(answer)).toBe('CANCELLED');
    expect(replica.ongoing).toBe(1);
    await work(replica);
    const next = submit(A);
    await work(replica);
    expect(await codeOf(next)).toBe('answered');
  });

  it('refuses a signal that is aborted and a deadline that has passed, without a trace', async () => {
    expect(await codeOf(submit(A, { signal: AbortSignal.abort() }))).toBe('CANCELLED');
    expect(await codeOf(submit(A, { deadline: 0 }))).toBe('DEADLINE_EXCEEDED');
    expect({ queued: dispatcher.queued, timers: clock.timers, holds }).toEqual({ queued: 0, timers: 0, holds: 0 });
  });

  it('rejects with DEADLINE_EXCEEDED when the deadline passes, waiting or running', async () => {
    const replica = addReplica('r0');
    const running = submit(A, { deadline: 10 });
    const waiting = submit(B, { deadline: 10 });
    clock.advance(10);
    await expect(running).rejects.toThrow('while a replica worked on it');
    await expect(waiting).rejects.toThrow('while it waited for a replica');
    await work(replica);
    expect(given).toEqual(['a>r0']);
  });

  it('leaves no listener and no timer behind an answer', async () => {
    const replica = addReplica('r0');
    let listeners = 0;
    const signal = {
      aborted: false,
      addEventListener: () => {
        listeners += 1;
      },
      removeEventListener: () => {
        listeners -= 1;
      },
    } as unknown as AbortSignal;
    const answer = submit(A, { signal, deadline: 1_000 });
    expect({ listeners, timers: clock.timers }).toEqual({ listeners: 1, timers: 1 });
    await work(replica);
    await answer;
    expect({ listeners, timers: clock.timers, holds }).toEqual({ listeners: 0, timers: 0, holds: 0 });
  });
});

describe('the bound on waiting requests', () => {
  it('refuses one more with QUEUE_FULL and says when to come back', async () => {
    setUp({ maxQueuedRequests: 2 });
    const [first, second] = [submit(A), submit(A)];
    await expect(submit(A)).rejects.toMatchObject({ code: 'QUEUE_FULL', retryable: true, retryAfterMs: 1_000 });
    await work(addReplica('r0'));
    await Promise.all([first, second]);
  });

  it('measures retryAfterMs by how fast requests leave the queue', async () => {
    setUp({ maxQueuedRequests: 5, maxOngoingRequests: 1 });
    const replica = addReplica('r0');
    submit(A);
    await work(replica);
    for (let request = 0; request < 6; request += 1) submit(A);
    for (let request = 0; request < 100; request += 1) {
      clock.advance(20);
      replica.step();
      await flush();
      submit(A);
    }
    // 50 leave in a second and 6 would be waiting, the refused one included; idle time in between does not count.
    const refused = () => submit(A).catch((error: InfermuxError) => error.retryAfterMs);
    expect(await refused()).toBeCloseTo(120, -1);
    await work(replica);
    clock.advance(3_600_000);
    for (let request = 0; request < 6; request += 1) submit(A);
    expect(await refused()).toBeLessThanOrEqual(120);
  });

  it('accepts what a free replica takes at once, even with no place to wait', async () => {
    setUp({ maxQueuedRequests: 0 });
    const replica = addReplica('r0');
    const answer = submit(A);
    expect(await codeOf(submit(B))).toBe('QUEUE_FULL');
    await work(replica);
    expect(await codeOf(answer)).toBe('answered');
  });
});

describe('failing replicas', () => {
  const crash = (replica: FakeReplica) => replica.crash((error) => dispatcher.removeReplica(replica, error));

  it('gives a request of a dead replica to another one, ahead of those that came later', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    for (const replica of [first, second]) replica.runMs = 100;
    const warm = [submit(A)];
    await work(first);
    const retried = submit(A);
    const later = submit(A);
    crash(first);
    await flush();
    expect(second.requests).toHaveLength(1);
    await work(second);
    await expect(retried).resolves.toMatchObject({ replica: 'r1' });
    await Promise.all([...warm, later]);
    expect((await retried).totalMs).toBeGreaterThanOrEqual(0);
  });

  it('rejects with REPLICA_FAILED when a second replica dies under the request', async () => {
    const replicas = [addReplica('r0'), addReplica('r1'), addReplica('r2')];
    for (const replica of replicas) {
      submit(A);
      replica.runMs = 100;
    }
    await work(...replicas);
    const doomed = submit(A);
    for (let death = 0; death < 2; death += 1) {
      const holder = replicas.find(({ ongoing }) => ongoing > 0) as FakeReplica;
      while (holder.isLoading) holder.step();
      crash(holder);
      await flush();
    }
    expect(await codeOf(doomed)).toBe('REPLICA_FAILED');
  });

  it('does not try a load again that a replica died of', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    const answers = [submit(A), submit(A), submit(A)];
    crash(first);
    await flush();
    expect(await Promise.all(answers.map(codeOf))).toEqual(Array(3).fill('MODEL_LOAD_FAILED'));
    await expect(submit(A)).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED', retryAfterMs: 1_000 });
    expect(second.requests).toEqual([]);
    clock.advance(1_000);
    const again = submit(A);
    await work(second);
    expect(await codeOf(again)).toBe('answered');
  });

  it('goes on with a model that another replica has when a replica dies while it loads it', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    first.runMs = 1_000;
    submit(A);
    await work(first, second);
    const answers = [submit(A), submit(A), submit(A)];
    clock.advance(1_000);
    expect(second.loadUnderWay).toBe('a@1');
    crash(second);
    addReplica('r2');
    clock.advance(500);
    await work(first);
    expect(await Promise.all(answers.map(codeOf))).toEqual(Array(3).fill('answered'));
    expect(given.filter((line) => line.endsWith('r2'))).toEqual([]);
  });

  it('loads that model again when the memory of it fades, though nothing else happens', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    first.runMs = 100_000;
    submit(A);
    await work(first, second);
    for (let request = 0; request < 3; request += 1) submit(A);
    clock.advance(500);
    crash(second);
    const third = addReplica('r2');
    clock.advance(999);
    expect(third.ongoing).toBe(0);
    clock.advance(1);
    expect(third.loadUnderWay).toBe('a@1');
  });

  it('names the model by its id', async () => {
    const replica = addReplica('r0');
    const answer = submit(A);
    crash(replica);
    await expect(answer).rejects.toThrow('model "a": the replica died while loading the model');
  });

  it('passes a failed load on and does not count the model as warm', async () => {
    const [first] = [addReplica('r0'), addReplica('r1')];
    const answer = submit(A);
    first.failLoad(new InfermuxError('MODEL_LOAD_FAILED', 'broken file'));
    expect(await codeOf(answer)).toBe('MODEL_LOAD_FAILED');
    expect(first.models.size).toBe(0);
  });

  it('refuses what waits and what comes during an outage, and no longer after it', async () => {
    const waiting = submit(A);
    dispatcher.declareOutage(new InfermuxError('REPLICA_FAILED', 'no thread'));
    expect(await codeOf(waiting)).toBe('REPLICA_FAILED');
    expect(await codeOf(submit(A))).toBe('REPLICA_FAILED');
    const replica = addReplica('r0');
    const answer = submit(A);
    await work(replica);
    expect(await codeOf(answer)).toBe('answered');
  });
});

describe('the feeds of a request', () => {
  it('are released once, when it is over: answered, failed, cancelled, too late or refused, and not for a retry', async () => {
    setUp({ maxQueuedRequests: 3, maxOngoingRequests: 1 });
    const released: string[] = [];
    const call = (name: string, terms: Partial<RoutedRequest> = {}) =>
      submit(A, { ...terms, releaseFeeds: () => released.push(name) });
    const [cancel, late] = [new AbortController(), new AbortController()];
    const replica = addReplica('r0');
    const answers = [call('retried')];
    await flush();
    answers.push(call('cancelled', { signal: cancel.signal }), call('too late', { deadline: clock.now() + 5 }));
    answers.push(call('cancelled and over', { signal: late.signal, deadline: clock.now() + 1e6 }), call('overflow'));
    await flush();
    expect(released).toEqual(['overflow']);
    cancel.abort();
    clock.advance(5);
    replica.crash(() => dispatcher.removeReplica(replica));
    await flush();
    expect(released).toEqual(['overflow', 'cancelled', 'too late']);
    await work(addReplica('r1'));
    late.abort();
    dispatcher.close(new InfermuxError('ENGINE_CLOSED', 'closing'));
    answers.push(call('refused'));
    const codes = await Promise.all(answers.map(codeOf));
    expect(codes).toEqual(['answered', 'CANCELLED', 'DEADLINE_EXCEEDED', 'answered', 'QUEUE_FULL', 'ENGINE_CLOSED']);
    expect(released).toEqual(['overflow', 'cancelled', 'too late', 'retried', 'cancelled and over', 'refused']);
  });
});

describe('ending', () => {
  it('finishes accepted work after close and refuses new work', async () => {
    const replica = addReplica('r0');
    const answers = [submit(A), submit(B)];
    dispatcher.close(new InfermuxError('ENGINE_CLOSED', 'closing'));
    expect(await codeOf(submit(A))).toBe('ENGINE_CLOSED');
    const idle = dispatcher.untilIdle();
    await work(replica);
    await idle;
    expect(await Promise.all(answers.map(codeOf))).toEqual(['answered', 'answered']);
  });

  it('rejects waiting and running requests on destroy', async () => {
    addReplica('r0');
    const answers = [submit(A), submit(B)];
    dispatcher.destroy(new InfermuxError('ENGINE_CLOSED', 'destroyed'));
    expect(await Promise.all(answers.map(codeOf))).toEqual(['ENGINE_CLOSED', 'ENGINE_CLOSED']);
    expect(holds).toBe(0);
    await dispatcher.untilIdle();
  });
});

describe('a load that fails where the model is to be had elsewhere', () => {
  it('costs no request: it goes where the model is, and the load is not tried again for a while', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    const before = submit(A);
    await work(first);
    await before;
    const answers = [submit(A)];
    // One that runs for so long that the next one spills.
    clock.advance(10_000);
    answers.push(submit(A), submit(A));
    clock.advance(10_000);
    expect(second.isLoading).toBe(true);
    second.failLoad(new InfermuxError('MODEL_LOAD_FAILED', 'the file was replaced'));
    await flush();
    clock.advance(500);
    expect(second.requests).toEqual([]);
    await work(first);
    await Promise.all(answers);
  });
});
