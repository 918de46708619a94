import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import type { Batching } from '../../../dist/contracts/batching.js';
import type { FakeReplica } from '../../support/fakes/fake-replica.js';
import { flush } from '../../support/flush.js';
import { METADATA, startBatchingDispatcher } from '../../support/routing/start-batching-dispatcher.js';
import { A, B, work } from '../../support/routing/start-dispatcher.js';

let { clock, dispatcher, given, switchedOff, addReplica, submit, submitMany, warmUp } = startBatchingDispatcher();

function setUp(batching?: Batching, options?: object, defers?: boolean): void {
  ({ clock, dispatcher, given, switchedOff, addReplica, submit, submitMany, warmUp } = startBatchingDispatcher(
    batching,
    options,
    defers,
  ));
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
