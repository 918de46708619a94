import { Dispatcher } from '../../../dist/routing/dispatcher.js';
import type { RoutedModel, RoutedRequest } from '../../../dist/routing/pending-request.js';
import { FakeClock } from '../fakes/fake-clock.js';
import { fakeObserver } from '../fakes/fake-observer.js';
import { FakeReplica } from '../fakes/fake-replica.js';
import { fakeModel, fakeRequest } from '../fakes/fake-requests.js';
import { flush } from '../flush.js';

/** What a test says of the dispatcher that it starts. */
export interface DispatcherSettings {
  readonly maxOngoingRequests?: number;
  readonly maxQueuedRequests?: number;
  readonly defers?: boolean;
  readonly lookAfterRequests?: number;
}

export const [A, B, C] = [fakeModel('a'), fakeModel('b'), fakeModel('c')];

/** Starts a dispatcher on a fake clock, without replicas. */
export function startDispatcher({
  maxOngoingRequests = 2,
  maxQueuedRequests = 300,
  defers = false,
  lookAfterRequests = 256,
}: DispatcherSettings = {}) {
  const clock = new FakeClock({ defers });
  let holds = 0;
  /** `<model>><replica>` for every dispatch. */
  const given: string[] = [];
  const observer = fakeObserver({
    busy: () => {
      holds += 1;
    },
    idle: () => {
      holds -= 1;
    },
  });
  const options = { maxOngoingRequests, maxQueuedRequests, batching: 'auto', lookAfterRequests } as const;
  const dispatcher = new Dispatcher<FakeReplica>(options, () => 0, clock, observer);

  /** @param prepare is given the replica before the dispatcher is. */
  function addReplica(id: string, maxModels = 3, prepare: (replica: FakeReplica) => void = () => undefined) {
    const replica = new FakeReplica(id, maxModels, {
      modelChanged: (changed, modelKey) => dispatcher.modelChanged(changed, modelKey),
      given: (to, { model }) => given.push(`${model.id}>${to.id}`),
    });
    prepare(replica);
    dispatcher.addReplica(replica);
    return replica;
  }

  function submit(model: RoutedModel = A, terms: Partial<RoutedRequest> = {}) {
    const answer = dispatcher.submit({ ...fakeRequest(model), ...terms }, (result) => ({ ...result }));
    answer.catch(() => undefined);
    return answer;
  }

  return { clock, dispatcher, given, holds: () => holds, addReplica, submit };
}

/** Lets replicas work until none has anything left to do. */
export async function work(...replicas: FakeReplica[]): Promise<void> {
  for (let busy = true; busy; ) {
    busy = false;
    for (const replica of replicas) busy = replica.step() || busy;
    await flush();
  }
}
