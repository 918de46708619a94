import { beforeEach, describe, expect, it } from 'vitest';
import { A, B, type DispatcherSettings, startDispatcher, work } from '../../support/routing/start-dispatcher.js';

let { clock, given, addReplica, submit } = startDispatcher();

function setUp(settings?: DispatcherSettings): void {
  ({ clock, given, addReplica, submit } = startDispatcher(settings));
}

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
