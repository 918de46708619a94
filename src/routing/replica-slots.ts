import type { Clock } from '../clock.js';
import { isQueueBefore, type ModelQueue } from './model-queue.js';
import { type ReplicaIndex, warmAmong } from './replica-index.js';
import type { ReplicaView } from './request-router.js';
import type { WaitingModels } from './waiting-models.js';

/** A replica whose thread may be blocked by a load. */
export interface LoadingReplica extends ReplicaView {
  /** Dispatches given to it and not finished. */
  readonly dispatches: number;
  /** True from the order of a load until it ended; the thread is blocked. */
  readonly isLoading: boolean;
}

/** What is expected to end so soon is worth hiding the next message behind it; before, late binding is worth more. */
const PREFETCH_MS = 1;
/** One dispatch that runs and one that is prefetched. */
const MOST_DISPATCHES = 2;

/** What a replica was given. */
interface Assignment {
  /** Milliseconds that each dispatch without an answer is expected to take; the first runs. */
  readonly expectedMs: number[];
  /** The queue that the last one came from. */
  last: ModelQueue | undefined;
  /** Whether the one that runs is expected to end soon. */
  endsSoon: boolean;
  cancelTimer: (() => void) | undefined;
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

export interface ReplicaSlotsObserver<R> {
  /** What the replica runs is expected to end soon: it can be given more. */
  freed(replica: R): void;
  /** Whether the model may be loaded at present. */
  mayLoad(modelKey: string): boolean;
}

/** Says which replica may be given requests of which model now. */
export class ReplicaSlots<R extends LoadingReplica> {
  #maxOngoingRequests: number;
  readonly #index: ReplicaIndex<R>;
  readonly #waiting: WaitingModels;
  readonly #clock: Clock;
  readonly #observer: ReplicaSlotsObserver<R>;
  readonly #assignments = new Map<R, Assignment>();

  /** @param maxOngoingRequests infinite for no limit but two dispatches. */
  constructor(
    maxOngoingRequests: number,
    index: ReplicaIndex<R>,
    waiting: WaitingModels,
    clock: Clock,
    observer: ReplicaSlotsObserver<R>,
  ) {
    this.#maxOngoingRequests = maxOngoingRequests;
    this.#index = index;
    this.#waiting = waiting;
    this.#clock = clock;
    this.#observer = observer;
  }

  /** @param maxOngoingRequests infinite for no limit but two dispatches. */
  configure(maxOngoingRequests: number): void {
    this.#maxOngoingRequests = maxOngoingRequests;
    for (const [replica, assignment] of this.#assignments) this.#updateIndex(replica, assignment);
  }

  add(replica: R): void {
    this.#assignments.set(replica, {
      expectedMs: [],
      last: undefined,
      endsSoon: false,
      cancelTimer: undefined,
      visit: undefined,
    });
  }

  delete(replica: R): void {
    this.#assignments.get(replica)?.cancelTimer?.();
    this.#assignments.delete(replica);
  }

  /**
   * To be called before the replica is told.
   *
   * @param nextSequence sequence number of the next request to arrive.
   * @param expectedMs what the dispatch is expected to take; infinite when that is unknown.
   */
  given(replica: R, queue: ModelQueue, nextSequence: number, expectedMs: number): void {
    const assignment = this.#assignments.get(replica);
    if (assignment === undefined) return;
    assignment.expectedMs.push(expectedMs);
    assignment.last = queue;
    if (!replica.models.has(queue.modelKey)) assignment.visit = { queue, untilSequence: nextSequence };
    if (assignment.expectedMs.length === 1) this.#begun(replica, assignment);
    this.#updateIndex(replica, assignment);
  }

  answered(replica: R): void {
    const assignment = this.#assignments.get(replica);
    if (assignment === undefined) return;
    assignment.expectedMs.shift();
    this.#begun(replica, assignment);
    this.#updateIndex(replica, assignment);
  }

  /** Notes what the replica has done by now, though the answers have not been handled. */
  lookAt(replica: R): void {
    const { dispatches } = replica;
    this.#index.setOccupancy(replica, { isIdle: this.isIdle(replica), isFree: this.#isFree(replica, dispatches) });
  }

  /** Whether the replica works for the queue now: then others go before it. */
  isServing(replica: R, queue: ModelQueue): boolean {
    const assignment = this.#assignments.get(replica);
    return assignment?.last === queue && assignment.expectedMs.length > 0;
  }

  isIdle(replica: R): boolean {
    return replica.dispatches === 0 && !replica.isLoading;
  }

  /** How many more requests the replica may be given; at least 1 where it has a slot. */
  room(replica: R): number {
    return Math.max(1, this.#maxOngoingRequests - replica.ongoing);
  }

  has(replica: R, queue: ModelQueue): boolean {
    if (replica.isLoading || queue.isGathering) return false;
    const { dispatches } = replica;
    // A load would hold up what runs, and what runs would hold up the load: it is bound when the replica is idle.
    if (!replica.models.has(queue.modelKey)) return dispatches === 0 && this.#observer.mayLoad(queue.modelKey);
    if (dispatches === 0) return true;
    // What lost its replica is to run alone: it may have ended it, or was there by chance and is not to be so again.
    if (queue.isRetrying || this.#waiting.isRetryingAny(replica.models)) return false;
    if (this.#isAnotherIdle(queue)) return false;
    return this.#mayPrefetch(replica, dispatches) && (this.#isVisiting(replica, queue) || !this.#isLoadBefore(queue));
  }

  /** The queue that the replica stays with, if it can take requests of it now. */
  visited(replica: R): ModelQueue | undefined {
    const queue = this.#assignments.get(replica)?.visit?.queue;
    return queue !== undefined && this.#isVisiting(replica, queue) && this.has(replica, queue) ? queue : undefined;
  }

  /** What an idle replica can begin now is not to wait behind what runs. */
  #isAnotherIdle({ modelKey }: ModelQueue): boolean {
    for (const other of warmAmong(this.#index.warm(modelKey), this.#index.idle, modelKey)) {
      if (this.isIdle(other)) return true;
    }
    return false;
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

  #mayPrefetch(replica: R, dispatches: number): boolean {
    if (dispatches >= MOST_DISPATCHES || replica.ongoing >= this.#maxOngoingRequests) return false;
    return this.#assignments.get(replica)?.endsSoon === true;
  }

  /** The first of what the replica was given runs from now on. */
  #begun(replica: R, assignment: Assignment): void {
    assignment.cancelTimer?.();
    assignment.cancelTimer = undefined;
    const [expectedMs] = assignment.expectedMs;
    assignment.endsSoon = expectedMs !== undefined && expectedMs <= PREFETCH_MS;
    if (expectedMs === undefined || assignment.endsSoon || expectedMs === Number.POSITIVE_INFINITY) return;
    const ending = () => {
      assignment.cancelTimer = undefined;
      assignment.endsSoon = true;
      this.#updateIndex(replica, assignment);
      this.#observer.freed(replica);
    };
    assignment.cancelTimer = this.#clock.schedule(ending, expectedMs - PREFETCH_MS);
  }

  #updateIndex(replica: R, { expectedMs }: Assignment): void {
    const dispatches = expectedMs.length;
    this.#index.setOccupancy(replica, { isIdle: dispatches === 0, isFree: this.#isFree(replica, dispatches) });
  }

  #isFree(replica: R, dispatches: number): boolean {
    return dispatches === 0 || this.#mayPrefetch(replica, dispatches);
  }
}
