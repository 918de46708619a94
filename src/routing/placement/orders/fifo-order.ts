import type { PendingRequest } from '../../pending-request.js';
import { isArrivedBefore, type ModelQueue } from '../../queues/model-queue.js';
import type { RoutableReplica } from '../replicas/candidate.js';
import { areRoutedAlike } from './per-request-order.js';
import type { PlacingGround, PlacingOrder } from './placement-order.js';

/** Strictly as requests came, by priority, whatever their model: all wait while the first of them has to. */
export class OrderOfArrival<R extends RoutableReplica> implements PlacingOrder<R> {
  readonly spills: boolean;
  readonly looksAtAll = true;
  readonly #ground: PlacingGround<R>;

  /** @param spills whether the router goes by models, and so by how long they have waited. */
  constructor(ground: PlacingGround<R>, spills: boolean) {
    this.#ground = ground;
    this.spills = spills;
  }

  place(queues: readonly ModelQueue[]): void {
    // All are to stand where the first is looked for.
    for (const queue of queues) this.#ground.park(queue);
    this.serve();
  }

  serve(): void {
    const { choose, give, park } = this.#ground;
    for (let queue = this.#oldest(); queue?.head !== undefined; queue = this.#oldest()) {
      const { head } = queue;
      const candidate = choose(queue, head);
      if (candidate === undefined) return;
      const next = this.#oldest(queue)?.head;
      const mayJoin = (request: PendingRequest) =>
        (next === undefined || isArrivedBefore(request, next)) && (this.spills || areRoutedAlike(head, request));
      give(queue, candidate, { from: head, mayJoin });
      park(queue);
    }
  }

  /** The queue, but for this one, whose head came first. */
  #oldest(but?: ModelQueue): ModelQueue | undefined {
    return this.#ground.waiting.first(isOlder, (queue) => queue !== but);
  }
}

function isOlder({ head: left }: ModelQueue, { head: right }: ModelQueue): boolean {
  return left !== undefined && (right === undefined || isArrivedBefore(left, right));
}
