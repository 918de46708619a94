import { beforeEach, describe, expect, it } from 'vitest';
import type { FakeReplica } from '../../support/fakes/fake-replica.js';
import { flush } from '../../support/flush.js';
import { A, B, startDispatcher, work } from '../../support/routing/start-dispatcher.js';

/** A run that does not end as long as a test goes on. */
const STUCK_MS = 1e9;

/** The model's load has taken this long. */
const measureLoad = (replica: FakeReplica, milliseconds: number) =>
  dispatcher.modelLoaded(replica, A, milliseconds, { inputs: [], outputs: [], omittedOutputs: [] });
const submitMany = (count: number, model = A) => Array.from({ length: count }, () => submit(model));

let { clock, dispatcher, given, addReplica, submit } = startDispatcher();

beforeEach(() => {
  ({ clock, dispatcher, given, addReplica, submit } = startDispatcher());
});

describe('spilling', () => {
  it.each([
    [1, 30],
    [2, 15],
    [4, 8],
  ])('evicts another model once the wait of %i in sum has cost a load', async (waiting, milliseconds) => {
    const [first, second] = [addReplica('r0', 1), addReplica('r1', 1)];
    first.runMs = 1_000;
    submit(A);
    submit(B);
    await work(first, second);
    // The use of b is long past: its requests would not miss it.
    clock.advance(1_000_000);
    measureLoad(first, 30);
    submitMany(1 + waiting);
    expect(given).toEqual(['a>r0', 'b>r1', 'a>r0']);
    clock.advance(milliseconds - 1);
    expect(given).toHaveLength(3);
    clock.advance(1);
    expect(given).toEqual(['a>r0', 'b>r1', 'a>r0', 'a>r1']);
  });

  it('loads a saturated model at once where nothing has to leave, in as many replicas as it can use', async () => {
    const replicas = ['r0', 'r1', 'r2', 'r3'].map((id) => addReplica(id));
    const [first] = replicas as [FakeReplica];
    first.runMs = 500;
    submit(A);
    await work(first);
    measureLoad(first, 600);
    given.length = 0;
    // In three replicas those that wait take 3 · 500 / 3 ms, less than another load.
    submitMany(6);
    expect(given[0]).toBe('a>r0');
    expect(new Set(given).size).toBe(3);
    // A load of the model is under way: waiting pays for no other.
    clock.advance(600);
    expect(new Set(given).size).toBe(3);
  });

  it('takes a replica with room among others that are idle too', async () => {
    const ids = ['r0', 'r1', 'r2', 'r3', 'r4'];
    const replicas = ids.map((id) => addReplica(id, id === 'r2' ? 3 : 1));
    const [first, , roomy] = replicas as [FakeReplica, FakeReplica, FakeReplica];
    first.runMs = 500;
    for (const replica of replicas) {
      const { key } = replica === first ? A : B;
      replica.models.set(key, 'loaded');
      dispatcher.modelChanged(replica, key);
    }
    submit(A);
    await work(first);
    measureLoad(first, 600);
    submitMany(20);
    expect(given.slice(1)).toEqual(['a>r0', `a>${roomy.id}`]);
  });

  it('evicts nothing at once for a saturated model', async () => {
    const replicas = [addReplica('r0', 1), addReplica('r1', 1)] as const;
    for (const replica of replicas) replica.runMs = 500;
    submit(A);
    submit(B);
    await work(...replicas);
    measureLoad(replicas[0], 600);
    submitMany(20);
    submitMany(20, B);
    clock.advance(10);
    expect(given.slice(2)).toEqual(['a>r0', 'b>r1']);
  });

  it('gives requests of the same turn where their model is, before another model spills there', async () => {
    ({ clock, dispatcher, given, addReplica, submit } = startDispatcher({ defers: true }));
    const replicas = [addReplica('r0'), addReplica('r1')] as const;
    for (const replica of replicas) replica.runMs = 500;
    const settle = async () => {
      clock.runDeferred();
      await work(...replicas);
    };
    submit(A);
    await settle();
    submit(B);
    await settle();
    measureLoad(replicas[0], 600);
    given.length = 0;
    for (const model of [A, A, A, B]) submit(model);
    clock.runDeferred();
    expect(given).toEqual(['a>r0', 'b>r1']);
  });

  it('loads a new model once for a burst that its first runs answer', async () => {
    const replicas = ['r0', 'r1', 'r2', 'r3'].map((id) => addReplica(id));
    for (const replica of replicas) replica.runMs = 0.01;
    const answers = submitMany(60);
    // The load takes a while, and so does its first run.
    clock.advance(50);
    measureLoad(replicas[0] as FakeReplica, 50);
    replicas[0]?.step();
    await flush();
    clock.advance(1);
    await work(...replicas);
    await Promise.all(answers);
    expect(replicas.flatMap(({ loads }) => loads)).toEqual(['a@1']);
  });

  it('counts no wait during a load of the model, however it ends', async () => {
    const [first, second] = [addReplica('r0'), addReplica('r1')];
    first.runMs = STUCK_MS;
    submit(A);
    await work(first);
    submitMany(3);
    clock.advance(2);
    expect(given).toEqual(['a>r0', 'a>r0']);
    clock.advance(1);
    // Two milliseconds are what such a load is expected to take.
    expect(given).toEqual(['a>r0', 'a>r0', 'a>r1']);
    const third = addReplica('r2');
    clock.advance(500);
    expect(given).toHaveLength(3);
    second.crash((error) => dispatcher.removeReplica(second, error));
    await flush();
    expect(third.models.size).toBe(0);
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
