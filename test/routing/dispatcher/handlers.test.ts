import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { handlerModel } from '../../../dist/contracts/handler.js';
import type { Dispatcher } from '../../../dist/routing/dispatcher.js';
import { NESTED_PRIORITY } from '../../../dist/routing/pending-request.js';
import type { FakeReplica } from '../../support/fakes/fake-replica.js';
import { flush } from '../../support/flush.js';
import { startDispatcher, work } from '../../support/routing/start-dispatcher.js';

const ANY = handlerModel(undefined);
const NAMED = handlerModel('named');
const path = ['app'];
const payload = {
  value: undefined,
  abandoned: undefined,
  path,
  isShadow: false,
  deadline: undefined,
  stream: undefined,
  terms: undefined,
};
const handled = { payload, checked: true };
const nested = { ...handled, priority: NESTED_PRIORITY };

let dispatcher: Dispatcher<FakeReplica>;
let world: ReturnType<typeof startDispatcher>;

function start(maxOngoingRequests: number): void {
  world = startDispatcher({ maxOngoingRequests, maxQueuedRequests: -1 });
  dispatcher = world.dispatcher;
}

/** Adds a replica with a handler, which has all requests that name no model. */
function addHandler(id: string, handles: 'requests' | 'batches' = 'requests'): FakeReplica {
  return world.addReplica(id, 3, (replica) => {
    replica.handles = handles;
    replica.models.set(ANY.key, 'loaded');
  });
}

beforeEach(() => start(2));

describe('a replica whose handler takes requests one by one', () => {
  it('has as many as it may, and the next when one of them is answered', async () => {
    const replica = addHandler('r');
    const answers = [1, 2, 3, 4, 5].map(() => world.submit(ANY, handled));
    await flush();
    expect(replica.ongoing).toBe(2);
    replica.step();
    await flush();
    expect(replica.ongoing).toBe(2);
    await work(replica);
    await Promise.all(answers);
  });

  it('shares them with the others', async () => {
    const replicas = ['r', 's'].map((id) => addHandler(id));
    for (let count = 0; count < 4; count += 1) void world.submit(ANY, handled);
    await flush();
    expect(replicas.map(({ ongoing }) => ongoing)).toEqual([2, 2]);
    await work(...replicas);
  });

  it('begins one for a model that it does not have, while others are under way', async () => {
    const replica = addHandler('r');
    void world.submit(ANY, handled);
    void world.submit(NAMED, handled);
    await flush();
    expect(replica.ongoing).toBe(2);
    await work(replica);
  });

  it('takes a nested request beyond its bound only while one of its own waits for such a request', async () => {
    const replica = addHandler('r');
    for (let count = 0; count < 3; count += 1) void world.submit(ANY, handled);
    void world.submit(ANY, nested);
    await flush();
    // It goes first, but there is no room: both requests of the replica work.
    expect([replica.ongoing, dispatcher.queued]).toEqual([2, 2]);
    replica.awaiting = 1;
    dispatcher.handled.awaitingChanged(replica);
    expect([replica.ongoing, dispatcher.queued]).toEqual([3, 1]);
    replica.awaiting = 0;
    dispatcher.handled.awaitingChanged(replica);
    expect([replica.ongoing, dispatcher.queued]).toEqual([3, 1]);
    await work(replica);
    expect([replica.ongoing, dispatcher.queued]).toEqual([0, 0]);
  });

  it('has a request that lost its replica alone, but for nested ones while it waits itself', async () => {
    const lost = addHandler('r');
    void world.submit(ANY, handled);
    await flush();
    lost.crash((error) => dispatcher.removeReplica(lost, error));
    const replica = addHandler('s');
    await flush();
    void world.submit(ANY, handled);
    void world.submit(ANY, nested);
    await flush();
    expect([replica.ongoing, dispatcher.queued]).toEqual([1, 2]);
    replica.awaiting = 1;
    dispatcher.handled.awaitingChanged(replica);
    expect([replica.ongoing, dispatcher.queued]).toEqual([2, 1]);
    replica.awaiting = 0;
    await work(replica);
    expect([replica.ongoing, dispatcher.queued]).toEqual([0, 0]);
  });

  it('has five when no bound is said', async () => {
    const replica = addHandler('r');
    dispatcher.configure({ maxOngoingRequests: undefined, maxQueuedRequests: -1, batching: 'auto' });
    for (let count = 0; count < 9; count += 1) void world.submit(ANY, handled);
    await flush();
    expect(replica.ongoing).toBe(5);
    await work(replica);
  });

  it('never has more than its bound, and answers everything, whatever comes in which order', async () => {
    const step = fc.constantFrom('ask', 'ask', 'ask named', 'work', 'work', 'crash', 'configure');
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 4 }), async (steps, bound) => {
        start(bound);
        const replicas = ['r', 's'].map((id) => addHandler(id));
        const answers: Promise<unknown>[] = [];
        let most = bound;
        for (const [index, each] of steps.entries()) {
          if (each === 'ask') answers.push(world.submit(ANY, handled));
          if (each === 'ask named') answers.push(world.submit(NAMED, handled));
          if (each === 'work') replicas[index % 2]?.step();
          if (each === 'crash') {
            const [dead] = replicas.splice(index % 2, 1, addHandler(`r${index}`)) as [FakeReplica];
            dead.crash((error) => dispatcher.removeReplica(dead, error));
          }
          if (each === 'configure') {
            most = Math.max(most, 1 + (index % 3));
            dispatcher.configure({ maxOngoingRequests: 1 + (index % 3), maxQueuedRequests: -1, batching: 'auto' });
          }
          await flush();
          for (const { ongoing } of replicas) expect(ongoing).toBeLessThanOrEqual(most);
        }
        await work(...replicas);
        const outcomes = await Promise.allSettled(answers);
        expect(outcomes).toHaveLength(answers.length);
        expect(dispatcher.queued).toBe(0);
      }),
      { numRuns: 200 },
    );
  });
});

describe('a replica whose handler takes batches', () => {
  it('has one call at a time, with all that waits', async () => {
    start(-1);
    const replica = addHandler('r', 'batches');
    const answers = [1, 2, 3, 4].map(() => world.submit(ANY, handled));
    await flush();
    expect([replica.dispatches, dispatcher.queued]).toEqual([1, 3]);
    replica.step();
    await flush();
    expect([replica.dispatches, replica.ongoing]).toEqual([1, 3]);
    await work(replica);
    await Promise.all(answers);
  });
});
