import type { Clock } from '../../common/clock.js';
import { DenseSet } from '../../common/dense-set.js';
import type { PendingRequest } from '../pending-request.js';
import type { ModelQueue } from '../queues/model-queue.js';
import type { EventLoopTurn } from './event-loop-turn.js';
import type { PlacementOrder } from './orders/placement-order.js';
import type { RoutableReplica } from './replicas/candidate.js';

export interface TurnArrivalsObserver {
  /** Requests arrived in these queues. */
  place(queues: readonly ModelQueue[]): void;
  /** The request arrived behind others of its queue. */
  placeBehind(queue: ModelQueue, request: PendingRequest): void;
}

/**
 * The requests that arrived in the present turn, and the queues that others left. Requests often arrive many at a time,
 * above all after a batch was answered: they are placed when the turn is over, so that all of them are here before any
 * is placed.
 */
export class TurnArrivals {
  readonly #clock: Clock;
  readonly #turn: EventLoopTurn;
  readonly #observer: TurnArrivalsObserver;
  readonly #queues = new DenseSet<ModelQueue>();
  readonly #behind: { readonly queue: ModelQueue; readonly request: PendingRequest }[] = [];
  /** Whether what has arrived will be placed at the end of the turn. */
  #isAwaited = false;

  constructor(clock: Clock, turn: EventLoopTurn, observer: TurnArrivalsObserver) {
    this.#clock = clock;
    this.#turn = turn;
    this.#observer = observer;
  }

  /**
   * Call it after the request was added to the queue.
   *
   * @param order the order in force.
   */
  add(
    queue: ModelQueue,
    request: PendingRequest,
    order: Pick<PlacementOrder<RoutableReplica>, 'placeBehind' | 'spills'>,
  ): void {
    if (queue.head === request || queue.isGathering) this.#queues.add(queue);
    // Behind another request that found no free slot there is nothing to try, except in an order that places those too.
    else if (order.placeBehind !== undefined) this.#behind.push({ queue, request });
    // The number of waiting requests may make a load worth it: the queue is looked at whenever that number has doubled.
    else if (order.spills && (queue.size & (queue.size - 1)) === 0) this.#queues.add(queue);
    else return;
    if (this.#isAwaited) return;
    this.#isAwaited = true;
    this.#placeAfterTurn();
  }

  /**
   * Call it after a request left the queue because it is over. The queue is placed again with what arrives, at the
   * latest in the next turn of the event loop: any number of timers may ring in this one.
   */
  left(queue: ModelQueue): void {
    const isFirst = this.#queues.items.length === 0;
    this.#queues.add(queue);
    if (isFirst && !this.#isAwaited) this.#clock.nextTurn(() => this.placeNow());
  }

  #placeAfterTurn(): void {
    if (this.#turn.isOver) {
      this.#clock.nextTurn(() => this.placeNow());
      return;
    }
    const since = this.#clock.now();
    this.#clock.defer(() => {
      this.#turn.callersTook(this.#clock.now() - since);
      this.placeNow();
    });
  }

  /** Places what has arrived, without waiting for the end of the turn. */
  placeNow(): void {
    this.#isAwaited = false;
    // Both are emptied first: a request that a router sends while it is asked belongs to the next turn.
    const behind = this.#behind.splice(0);
    const queues = [...this.#queues.items];
    for (const queue of queues) this.#queues.remove(queue);
    if (queues.length + behind.length === 0) return;
    // Shadow requests go behind all others, also behind those that arrived after them in this turn.
    this.#observer.place(queues.filter(({ head }) => head?.isShadow !== true));
    this.#observer.place(queues.filter(({ head }) => head?.isShadow === true));
    for (const { queue, request } of behind) {
      if (request.isWaiting && !queue.isGathering) this.#observer.placeBehind(queue, request);
    }
  }

  /** The queue will not be used again. */
  forget(queue: ModelQueue): void {
    this.#queues.delete(queue);
  }
}
