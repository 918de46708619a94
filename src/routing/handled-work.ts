import type { BatchingPolicy } from '../contracts/batching.js';
import type { RoutedModel } from './pending-request.js';
import type { Placement } from './placement/placement.js';
import type { RoutableReplica } from './placement/replicas/candidate.js';
import type { LoneRun } from './placement/wide/wide-sessions.js';
import type { ModelQueues } from './queues/model-queues.js';

/** What the handlers of a deployment's replicas do beside answering, as the dispatcher needs to know it. */
export class HandledWork<R extends RoutableReplica> {
  readonly #queues: ModelQueues;
  readonly #placement: Placement<R>;

  constructor(queues: ModelQueues, placement: Placement<R>) {
    this.#queues = queues;
    this.#placement = placement;
  }

  /** How what a handler runs of the model at once is joined. */
  batchingOf(model: RoutedModel): BatchingPolicy {
    return this.#queues.policyOf(model);
  }

  /** The replica waits for more or fewer requests that its handler has made. */
  awaitingChanged(replica: R): void {
    this.#placement.awaitingChanged(replica);
  }

  /** A lone request of the handler ran the model. @param run.key of the session. */
  ran(replica: R, model: RoutedModel, run: LoneRun): void {
    this.#placement.handlerRan(replica, this.#queues.of(model), run);
  }
}
