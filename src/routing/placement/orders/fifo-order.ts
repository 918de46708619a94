import type { PendingRequest } from '../../pending-request.js';
import { isPlaceBefore, type ModelQueue } from '../../queues/model-queue.js';
import type { RoutableReplica } from '../replicas/candidate.js';
import type { PlacementContext, PlacementOrder } from './placement-order.js';

/**
 * Places requests strictly in the order of their arrival, whatever their model: all wait while the first one has to
 * wait. Only a model that is tried for the first time holds up no other: it may never load. A request with a higher
 * priority goes in the place of its model's first one.
 */
export class FifoOrder<R extends RoutableReplica> implements PlacementOrder<R> {
  readonly spills: boolean;
  readonly looksAtAll = true;
  readonly takesTurns = false;
  readonly isBefore = isPlaceBefore;
  readonly #context: PlacementContext<R>;

  /** @param spills whether the router goes by models: it then spills a model that has waited long enough. */
  constructor(context: PlacementContext<R>, spills: boolean) {
    this.#context = context;
    this.spills = spills;
  }

  place(queues: readonly ModelQueue[]): void {
    // `serve` looks for the first request among the queues that are up to date.
    for (const queue of queues) this.#context.updateEligibility(queue);
    this.serve();
  }

  serve(): void {
    const { waiting, choose, give, updateEligibility } = this.#context;
    for (let queue = waiting.first(); queue?.head !== undefined; queue = waiting.first()) {
      const { head } = queue;
      const candidate = choose(queue, head);
      if (candidate === undefined) return;
      give(queue, candidate, { from: head, mayJoin: this.#mayJoin(queue, head) });
      updateEligibility(queue);
    }
  }

  /** Which requests of the first queue may go along with its head: those that come before all other queues. */
  #mayJoin(queue: ModelQueue, head: PendingRequest): (request: PendingRequest) => boolean {
    const { waiting, areRoutedAlike } = this.#context;
    const { second } = waiting;
    return (request) => (second === undefined || isPlaceBefore(queue, second)) && areRoutedAlike(head, request);
  }
}
