import { beforeEach, describe, expect, it } from 'vitest';
import { flush } from '../../support/flush.js';
import { A, B, startDispatcher, work } from '../../support/routing/start-dispatcher.js';

/** A run that does not end as long as a test goes on. */
const STUCK_MS = 1e9;

let { clock, dispatcher, given, addReplica, submit } = startDispatcher();

beforeEach(() => {
  ({ clock, dispatcher, given, addReplica, submit } = startDispatcher());
});

describe('spilling', () => {
  it('loads the model on a cold replica once the wait has cost a load', async () => {
    const [first] = [addReplica('r0'), addReplica('r1')];
    first.runMs = 1_000;
    submit(A);
    await work(first);
    dispatcher.modelLoaded(first, A, 30, { inputs: [], outputs: [], omittedOutputs: [] });
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
