import { isQueueBefore, type ModelQueue } from './model-queue.js';
import type { ReplicaIndex } from './replica-index.js';
import type { ReplicaView } from './request-router.js';
import type { WaitingModels } from './waiting-models.js';

/** A replica whose thread may be blocked by a load. */
export interface LoadingReplica extends ReplicaView {
  /** True from the order of a load until it ended; the thread is blocked. */
  readonly isLoading: boolean;
}

/** A run that is expected to end so soon is worth hiding the next message behind it; a longer one is not. */
const PREFETCH_BELOW_MS = 1;
/** One dispatch that runs and one that is prefetched. */
const MOST_DISPATCHES = 2;

/** What a replica was given. */
interface Assignment {
  /** Dispatches without an answer yet. */
  unanswered: number;
  /** The queue that the last one came from. */
  last: ModelQueue | undefined;
  visit: Visit | undefined;
}

/**
 * A load pays for all that waited for its model when it was ordered: the replica serves them before it turns to other
 * models, and no more than them, so that nobody is kept waiting without end (gated service, as in polling systems).
 */
interface Visit {
  readonly queue: ModelQueue;
  /** Requests that arrived from here on take their turn like any other. */
  readonly untilSequence: number;
}

/** Says which replica may be given a request of which model now. */
export class ReplicaSlots<R extends LoadingReplica> {
  readonly #mostDispatches: number;
  readonly #index: ReplicaIndex<R>;
  readonly #waiting: WaitingModels;
  readonly #mayLoad: (modelKey: string) => boolean;
  readonly #assignments = new Map<R, Assignment>();

  /** @param mayLoad whether the model may be loaded at present. */
  constructor(
    maxOngoingRequests: number,
    index: ReplicaIndex<R>,
    waiting: WaitingModels,
    mayLoad: (modelKey: string) => boolean,
  ) {
    this.#mostDispatches = Math.min(MOST_DISPATCHES, maxOngoingRequests);
    this.#index = index;
    this.#waiting = waiting;
    this.#mayLoad = mayLoad;
  }

  add(replica: R): void {
    this.#assignments.set(replica, { unanswered: 0, last: undefined, visit: undefined });
  }

  delete(replica: R): void {
    this.#assignments.delete(replica);
  }

  /** To be called before the replica is told, with the sequence number of the next request to arrive. */
  given(replica: R, queue: ModelQueue, nextSequence: number): void {
    const assignment = this.#assignments.get(replica);
    if (assignment === undefined) return;
    assignment.unanswered += 1;
    assignment.last = queue;
    if (!replica.models.has(queue.modelKey)) assignment.visit = { queue, untilSequence: nextSequence };
    this.#updateIndex(replica, assignment);
  }

  answered(replica: R): void {
    const assignment = this.#assignments.get(replica);
    if (assignment === undefined) return;
    assignment.unanswered -= 1;
    this.#updateIndex(replica, assignment);
  }

  isIdle(replica: R): boolean {
    return replica.ongoing === 0 && !replica.isLoading;
  }

  has(replica: R, queue: ModelQueue): boolean {
    if (replica.isLoading) return false;
    const { ongoing } = replica;
    // A load would hold up what runs, and what runs would hold up the load: it is bound when the replica is idle.
    if (!replica.models.has(queue.modelKey)) return ongoing === 0 && this.#mayLoad(queue.modelKey);
    if (ongoing === 0) return true;
    return this.#mayPrefetch(replica, ongoing) && (this.#isVisiting(replica, queue) || !this.#isLoadBefore(queue));
  }

  /** The queue that the replica stays with, if it can take a request of it now. */
  visited(replica: R): ModelQueue | undefined {
    const queue = this.#assignments.get(replica)?.visit?.queue;
    return queue !== undefined && this.#isVisiting(replica, queue) && this.has(replica, queue) ? queue : undefined;
  }

  #isVisiting(replica: R, { modelKey, head }: ModelQueue): boolean {
    const visit = this.#assignments.get(replica)?.visit;
    if (visit?.queue.modelKey !== modelKey || head === undefined) return false;
    const otherPriority = this.#waiting.firstAnywhere?.head?.priority ?? Number.NEGATIVE_INFINITY;
    return head.sequence < visit.untilSequence && head.priority >= otherPriority;
  }

  /** A model that is to be loaded needs an idle replica, which there never would be if others were always prefetched. */
  #isLoadBefore(queue: ModelQueue): boolean {
    const first = this.#waiting.firstAnywhere;
    return first !== undefined && isQueueBefore(first, queue);
  }

  #mayPrefetch(replica: R, ongoing: number): boolean {
    const lastRunMs = this.#assignments.get(replica)?.last?.times.runMs ?? Number.POSITIVE_INFINITY;
    return ongoing < this.#mostDispatches && lastRunMs <= PREFETCH_BELOW_MS;
  }

  #updateIndex(replica: R, { unanswered }: Assignment): void {
    const isIdle = unanswered === 0;
    this.#index.setOccupancy(replica, { isIdle, isFree: isIdle || this.#mayPrefetch(replica, unanswered) });
  }
}
