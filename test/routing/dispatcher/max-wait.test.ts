import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../dist/common/errors.js';
import type { Batching } from '../../../dist/contracts/batching.js';
import type { TensorFeeds } from '../../../dist/tensors/tensor.js';
import { startBatchingDispatcher } from '../../support/routing/start-batching-dispatcher.js';
import { A, work } from '../../support/routing/start-dispatcher.js';

let { clock, dispatcher, given, addReplica, submit, submitMany, warmUp } = startBatchingDispatcher();

function setUp(batching?: Batching, options?: object, defers?: boolean): void {
  ({ clock, dispatcher, given, addReplica, submit, submitMany, warmUp } = startBatchingDispatcher(
    batching,
    options,
    defers,
  ));
}

beforeEach(() => setUp());

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
