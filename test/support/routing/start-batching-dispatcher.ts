import type { Batching } from '../../../dist/contracts/batching.js';
import { Dispatcher } from '../../../dist/routing/dispatcher.js';
import type { TensorFeeds, ValueMetadata } from '../../../dist/tensors/tensor.js';
import { FakeClock } from '../fakes/fake-clock.js';
import { fakeObserver } from '../fakes/fake-observer.js';
import { FakeReplica, feedsOf } from '../fakes/fake-replica.js';
import { fakeRequest } from '../fakes/fake-requests.js';
import { A, B, work } from './start-dispatcher.js';

const value: ValueMetadata = { name: 'x', type: 'float32', shape: ['N'] };
/** Of all models: their requests can be joined. */
export const METADATA = { inputs: [value], outputs: [value], omittedOutputs: [] };
const feeds = (): TensorFeeds => ({ x: { type: 'float32', dims: [1], data: new Float32Array(1) } });

/** Starts a dispatcher that joins requests, on a fake clock and without replicas. */
export function startBatchingDispatcher(batching: Batching = 'auto', options = {}, defers = false) {
  const clock = new FakeClock({ defers });
  /** `<model>><replica>:<requests>` for every dispatch, and `!` for batches that are to be proven. */
  const given: string[] = [];
  const switchedOff: string[] = [];
  const dispatcher = new Dispatcher<FakeReplica>(
    { maxOngoingRequests: -1, maxQueuedRequests: -1, batching, ...options },
    () => 0,
    clock,
    fakeObserver({ batchingSwitchedOff: ({ id }, reason) => switchedOff.push(`${id}: ${reason}`) }),
  );

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

  return { clock, dispatcher, given, switchedOff, addReplica, submit, submitMany, warmUp };
}
