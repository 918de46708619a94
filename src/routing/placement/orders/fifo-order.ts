import type { PendingRequest } from '../../pending-request.js';
import { isArrivedBefore, type ModelQueue } from '../../queues/model-queue.js';
import type { RoutableReplica } from '../replicas/candidate.js';
import { areRoutedAlike } from './per-request-order.js';
import type { PlacementContext, PlacementOrder } from './placement-order.js';

/** Places requests strictly by priority and arrival, whatever their model: all wait while the first one has to wait. */
export class FifoOrder<R extends RoutableReplica> implements PlacementOrder<R> {
  readonly spills: boolean;
  readonly looksAtAll = true;
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
    const { choose, give, updateEligibility } = this.#context;
    for (let queue = this.#oldest(); queue?.head !== undefined; queue = this.#oldest()) {
      const { head } = queue;
      const candidate = choose(queue, head);
      if (candidate === undefined) return;
      const next = this.#oldest(queue)?.head;
      const mayJoin = (request: PendingRequest) =>
        (next === undefined || isArrivedBefore(request, next)) && (this.spills || areRoutedAlike(head, request));
      give(queue, candidate, { from: head, mayJoin });
      updateEligibility(queue);
    }
  }

  /** The queue whose head comes first, `but` aside. */
  #oldest(but?: ModelQueue): ModelQueue | undefined {
    return this.#context.waiting.first(isOlder, (queue) => queue !== but);
  }
}

function isOlder({ head: left }: ModelQueue, { head: right }: ModelQueue): boolean {
  return left !== undefined && (right === undefined || isArrivedBefore(left, right));
}
