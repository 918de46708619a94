import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../dist/common/errors.js';
import type { Batching } from '../../dist/contracts/batching.js';
import { Dispatcher } from '../../dist/routing/dispatcher.js';
import type { TensorFeeds, ValueMetadata } from '../../dist/tensors/tensor.js';
import { FakeClock, FakeReplica, fakeModel, fakeObserver, fakeRequest, feedsOf, flush } from '../support/fakes.js';

const A = fakeModel('a');
const B = fakeModel('b');
const value: ValueMetadata = { name: 'x', type: 'float32', shape: ['N'] };
const METADATA = { inputs: [value], outputs: [value] };
const feeds = (): TensorFeeds => ({ x: { type: 'float32', dims: [1], data: new Float32Array(1) } });

let clock: FakeClock;
let dispatcher: Dispatcher<FakeReplica>;
/** `<model>><replica>:<requests>` for every dispatch, and `!` for batches that are to be proven. */
let given: string[];
let switchedOff: string[];

function setUp(batching: Batching = 'auto', options = {}, defers = false): void {
  clock = new FakeClock({ defers });
  given = [];
  switchedOff = [];
  dispatcher = new Dispatcher(
    { maxOngoingRequests: -1, maxQueuedRequests: -1, batching, ...options },
    () => 0,
    clock,
    fakeObserver({ batchingSwitchedOff: ({ id }, reason) => switchedOff.push(`${id}: ${reason}`) }),
  );
}

function addReplica(id: string, runMs = 0.1): FakeReplica {
  const replica = new FakeReplica(id, 3, {
    modelChanged: (changed, modelKey) => {
      const model = modelKey === A.key ? A : B;
      if (changed.models.get(modelKey) === 'loaded') dispatcher.modelLoaded(changed, model, 5, METADATA);
      dispatcher.modelChanged(changed, modelKey);
    },
    given: (to, dispatch) =>
      given.push(`${dispatch.model.id}>${to.id}:${feedsOf(dispatch).length}${dispatch.verify ? '!' : ''}`),
  });
  replica.runMs = runMs;
  dispatcher.addReplica(replica);
  return replica;
}

function submit(model = A, terms = {}) {
  const request = { ...fakeRequest(model, feeds()), ...terms };
  const answer = dispatcher.submit(request, (result) => ({ ...result }));
  answer.catch(() => undefined);
  return answer;
}

const submitMany = (count: number, model = A) => Array.from({ length: count }, () => submit(model));

async function work(...replicas: FakeReplica[]): Promise<void> {
  for (let busy = true; busy; ) {
    busy = false;
    for (const replica of replicas) busy = replica.step() || busy;
    await flush();
  }
}

/** Puts the model on the replicas and lets batches grow to the largest. */
async function warmUp(...replicas: FakeReplica[]): Promise<void> {
  for (const replica of replicas) {
    replica.models.set(A.key, 'loaded');
    dispatcher.modelChanged(replica, A.key);
  }
  dispatcher.modelLoaded(replicas[0] as FakeReplica, A, 5, METADATA);
  for (let round = 0; round < 10; round += 1) {
    submitMany(256);
    await work(...replicas);
  }
  given.length = 0;
}

beforeEach(() => setUp());

describe('what waits when a slot frees', () => {
  it('goes together, in one message', async () => {
    const replica = addReplica('r0', 50);
    await warmUp(replica);
    const answers = submitMany(8);
    await work(replica);
    // With runs of 50 ms there is no prefetch: the first went alone, the others waited for it.
    expect(given).toEqual(['a>r0:1!', 'a>r0:7!']);
    expect((await answers[7])?.batchSize).toBe(7);
    expect((await answers[0])?.batchSize).toBe(1);
  });

  it('is shared among the replicas that are free', async () => {
    setUp('auto', {}, true);
    const replicas = ['r0', 'r1', 'r2'].map((id) => addReplica(id));
    clock.runDeferred();
    for (const replica of replicas) {
      replica.models.set(A.key, 'loaded');
      dispatcher.modelChanged(replica, A.key);
    }
    dispatcher.modelLoaded(replicas[0] as FakeReplica, A, 5, METADATA);
    for (let round = 0; round < 12; round += 1) {
      submitMany(256);
      for (let turn = 0; turn < 40; turn += 1) {
        clock.runDeferred();
        await work(...replicas);
      }
    }
    given.length = 0;
    submitMany(10);
    expect(given).toEqual([]);
    clock.runDeferred();
    expect(given).toEqual(['a>r0:4!', 'a>r1:3!', 'a>r2:3!']);
  });

  it('comes from one model after the other', async () => {
    const replica = addReplica('r0', 2);
    await warmUp(replica);
    submit(B);
    await work(replica);
    given.length = 0;
    submitMany(3);
    submitMany(2, B);
    submit(A);
    await work(replica);
    expect(given.map((text) => text.replace('!', ''))).toEqual(['a>r0:1', 'b>r0:2', 'a>r0:3']);
  });

  it('is bounded by maxOngoingRequests', async () => {
    setUp('auto', { maxOngoingRequests: 3 });
    const replica = addReplica('r0');
    await warmUp(replica);
    submitMany(20);
    const ongoing: number[] = [];
    do {
      ongoing.push(replica.ongoing);
      replica.step();
      await flush();
    } while (replica.ongoing > 0);
    expect(Math.max(...ongoing)).toBe(3);
  });
});

describe('proof', () => {
  it('is asked for until a replica has found a batch equal to single runs', async () => {
    const replica = addReplica('r0');
    await warmUp(replica);
    replica.verification = { mismatch: undefined };
    submit();
    await work(replica);
    submit();
    expect(given).toEqual(['a>r0:1!', 'a>r0:1']);
  });

  it('is not asked for when told so', async () => {
    setUp({ verify: false });
    const replica = addReplica('r0');
    await warmUp(replica);
    submit();
    expect(given).toEqual(['a>r0:1']);
  });

  it('that fails switches batching off for the model, once', async () => {
    const replica = addReplica('r0', 0.4);
    await warmUp(replica);
    replica.verification = { mismatch: 'it mixes rows' };
    const before = submitMany(9);
    await work(replica);
    await Promise.all(before);
    expect(switchedOff).toEqual(['a: it mixes rows']);
    given.length = 0;
    submitMany(9);
    await work(replica);
    // As many as are expected to run within a millisecond.
    expect(given[0]).toBe('a>r0:1!');
    expect(Math.max(...given.map((text) => Number.parseInt(text.split(':')[1] ?? '', 10)))).toBeLessThan(9);
    expect(switchedOff).toHaveLength(1);
  });
});

describe('maxWaitMs', () => {
  it('lets requests wait for company, but no longer, and not when the batch is full', async () => {
    setUp({ maxWaitMs: 10, maxSize: 4 });
    const replica = addReplica('r0');
    await warmUp(replica);
    submitMany(3);
    expect(given).toEqual([]);
    clock.advance(9);
    expect(given).toEqual([]);
    clock.advance(1);
    expect(given).toEqual(['a>r0:3!']);
    await work(replica);
    submitMany(4);
    expect(given[1]).toBe('a>r0:4!');
    await work(replica);
    expect(clock.timers).toBe(0);
  });

  it('counts rows: requests of several fill a batch sooner', async () => {
    setUp({ maxWaitMs: 10, maxSize: 4 });
    const replica = addReplica('r0');
    await warmUp(replica);
    const rows = (count: number): TensorFeeds => ({
      x: { type: 'float32', dims: [count], data: new Float32Array(count) },
    });
    submit(A, { feeds: rows(3) });
    expect(given).toEqual([]);
    submit(A, { feeds: rows(1) });
    expect(given).toEqual(['a>r0:2!']);
    await work(replica);
    // What does not fit into a full batch waits for company again.
    submit(A, { feeds: rows(3) });
    submit(A, { feeds: rows(3) });
    expect(given.slice(1)).toEqual(['a>r0:1!']);
    submit(A, { feeds: rows(1) });
    expect(given.slice(1)).toEqual(['a>r0:1!', 'a>r0:2!']);
    await work(replica);
    expect(clock.timers).toBe(0);
  });

  it('does not hold up a batch that is as large as the latency target allows', async () => {
    setUp({ maxWaitMs: 10, targetLatencyMs: 0.35 });
    const replica = addReplica('r0');
    replica.msPerRequest = 0.1;
    await warmUp(replica);
    clock.advance(10);
    await work(replica);
    given.length = 0;
    submitMany(2);
    expect(given).toEqual([]);
    submit();
    expect(given).toEqual(['a>r0:3!']);
  });

  it('holds up no request for more than half of its time', async () => {
    setUp({ maxWaitMs: 20 });
    const replica = addReplica('r0');
    await warmUp(replica);
    clock.advance(20);
    await work(replica);
    given.length = 0;
    submit();
    submit(A, { deadline: clock.now() + 10 });
    clock.advance(4);
    expect(given).toEqual([]);
    clock.advance(1);
    expect(given).toEqual(['a>r0:2!']);
  });

  it('is over when the engine closes', async () => {
    setUp({ maxWaitMs: 5_000 });
    const replica = addReplica('r0');
    await warmUp(replica);
    clock.advance(5_000);
    await work(replica);
    const answer = submit();
    dispatcher.close(new InfermuxError('ENGINE_CLOSED', 'closing'));
    await work(replica);
    await expect(answer).resolves.toMatchObject({ batchSize: 1 });
    expect(clock.timers).toBe(0);
  });

  it.each<[string, object, object]>([
    ['has no rows', {}, { feeds: { x: { type: 'float32', dims: [0], data: new Float32Array(0) } } }],
    ['may not be joined with others', { maxOngoingRequests: 1 }, {}],
  ])('does not hold up a request that %s', async (_, options, terms) => {
    setUp({ maxWaitMs: 10 }, options);
    const replica = addReplica('r0');
    await warmUp(replica);
    clock.advance(10);
    await work(replica);
    given.length = 0;
    submit(A, terms);
    expect(given).toEqual(['a>r0:1!']);
  });

  it('gives what it has brought together to one replica', async () => {
    setUp({ maxWaitMs: 10, maxSize: 4 });
    const replicas = [addReplica('r0'), addReplica('r1')];
    await warmUp(...replicas);
    submitMany(4);
    expect(given).toEqual(['a>r0:4!']);
    submitMany(4);
    expect(given).toEqual(['a>r0:4!', 'a>r1:4!']);
  });

  it('does not hold up a model that is not known yet', () => {
    setUp({ maxWaitMs: 10 });
    addReplica('r0');
    submit();
    expect(given).toEqual(['a>r0:1!']);
  });

  it('does not keep a request from its deadline or its caller', async () => {
    setUp({ maxWaitMs: 50 });
    const replica = addReplica('r0');
    await warmUp(replica);
    // What was left over from full batches.
    clock.advance(50);
    await work(replica);
    const late = submit(A, { deadline: clock.now() + 5 });
    clock.advance(5);
    await expect(late).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    expect({ timers: clock.timers, queued: dispatcher.queued }).toEqual({ timers: 0, queued: 0 });
  });
});

it('a model with long runs and many waiting requests holds up another by one run, not by all of them', async () => {
  const replica = addReplica('r0', 50);
  await warmUp(replica);
  submit(B);
  await work(replica);
  submitMany(10);
  const short = submit(B);
  given.length = 0;
  replica.step();
  await flush();
  replica.step();
  await flush();
  expect(given[0]).toMatch(/^b>r0:1/);
  await expect(short).resolves.toMatchObject({ replica: 'r0' });
});

it('a long run is given its successor about a millisecond before it is expected to end', async () => {
  setUp(false);
  const replica = addReplica('r0', 20);
  await warmUp(replica);
  submitMany(2);
  expect(replica.dispatches).toBe(1);
  clock.advance(18);
  expect(replica.dispatches).toBe(1);
  clock.advance(1);
  expect(replica.dispatches).toBe(2);
  await work(replica);
  expect(clock.timers).toBe(0);
});

it('requests that lost their replica go one by one, so that the one that ended it does not take others along', async () => {
  const first = addReplica('r0', 50);
  await warmUp(first);
  const answers = submitMany(6);
  first.step();
  await flush();
  expect(given).toEqual(['a>r0:1!', 'a>r0:5!']);
  first.crash((error: InfermuxError) => dispatcher.removeReplica(first, error));
  await flush();
  given.length = 0;
  const second = addReplica('r1');
  await work(second);
  await Promise.all(answers);
  expect(given).toEqual(Array(5).fill('a>r1:1!'));
});

it('what fails at once does not count as quick', async () => {
  setUp(false);
  const replica = addReplica('r0', 200);
  replica.models.set(A.key, 'loaded');
  dispatcher.modelChanged(replica, A.key);
  dispatcher.modelLoaded(replica, A, 5, METADATA);
  replica.failure = new InfermuxError('INVALID_ARGUMENT', 'wrong dims');
  submit();
  await work(replica);
  replica.failure = undefined;
  submitMany(20);
  await work(replica);
  expect(given).toEqual(Array(21).fill('a>r0:1!'));
});

it('an answer that falls short of its requests leaves nobody waiting', async () => {
  const replica = addReplica('r0', 50);
  await warmUp(replica);
  replica.answers = 2;
  const answers = submitMany(6);
  await work(replica);
  const codes = await Promise.all(
    answers.map((answer) =>
      answer.then(
        () => 'answered',
        ({ code }) => code,
      ),
    ),
  );
  expect(codes).toEqual(['answered', 'answered', 'answered', 'INTERNAL', 'INTERNAL', 'INTERNAL']);
});

it('work is handed out in turns: after a millisecond the event loop goes first', async () => {
  setUp('auto', {}, true);
  const replica = addReplica('r0', 0.1);
  clock.runDeferred();
  submit();
  clock.runDeferred();
  await work(replica);
  clock.runDeferred();
  given.length = 0;

  submit();
  clock.runDeferred();
  submit();
  // The turn has lasted too long when the answer comes, so what waits is given in the next.
  submit();
  await flush();
  clock.advance(2);
  replica.step();
  await flush();
  const inThisTurn = given.length;
  clock.runDeferred();
  await flush();
  expect(inThisTurn).toBe(1);
  expect(given.length).toBeGreaterThan(1);
});
