import type { Clock } from '../../../common/clock.js';
import { isQueueBefore, type ModelQueue } from '../../queues/model-queue.js';
import type { WaitingModels } from '../../queues/waiting-models.js';
import type { Candidate, RoutableReplica } from './candidate.js';
import { type ReplicaIndex, warmAmong } from './replica-index.js';

/** What is expected to end so soon is worth hiding the next message behind it; before, late binding is worth more. */
const PREFETCH_MS = 1;

export interface ReplicaSlotsObserver<R extends RoutableReplica> {
  /** What the replica runs is expected to end soon: it can be given more. */
  freed(candidate: Candidate<R>): void;
  /** Whether the model may be loaded at present. */
  mayLoad(modelKey: string): boolean;
}

/** Says which replica may be given requests of which model now, and how many. */
export class ReplicaSlots<R extends RoutableReplica> {
  readonly #index: ReplicaIndex<Candidate<R>>;
  readonly #waiting: WaitingModels;
  readonly #clock: Clock;
  readonly #observer: ReplicaSlotsObserver<R>;

  constructor(
    index: ReplicaIndex<Candidate<R>>,
    waiting: WaitingModels,
    clock: Clock,
    observer: ReplicaSlotsObserver<R>,
  ) {
    this.#index = index;
    this.#waiting = waiting;
    this.#clock = clock;
    this.#observer = observer;
  }

  /** @param maxOngoing requests; infinite for no limit but two dispatches. */
  configure(candidate: Candidate<R>, maxOngoing: number): void {
    candidate.maxOngoing = maxOngoing;
    this.#update(candidate);
  }

  /**
   * To be called before the replica is told.
   *
   * @param nextSequence sequence number of the next request to arrive.
   * @param expectedMs what the dispatch is expected to take; infinite when that is unknown.
   */
  given(candidate: Candidate<R>, queue: ModelQueue, nextSequence: number, expectedMs: number): void {
    candidate.expectedMs.push(expectedMs);
    candidate.last = queue;
    if (!candidate.models.has(queue.modelKey)) candidate.visit = { queue, untilSequence: nextSequence };
    if (candidate.expectedMs.length === 1) this.#begun(candidate);
    this.#update(candidate);
  }

  answered(candidate: Candidate<R>): void {
    candidate.expectedMs.shift();
    this.#begun(candidate);
    this.#update(candidate);
  }

  /** Notes what the replica has done by now, though the answers have not been handled. */
  lookAt(candidate: Candidate<R>): void {
    this.#note(candidate, candidate.replica.dispatches);
  }

  /** To be called when the replica began or ended a load. */
  loadChanged(candidate: Candidate<R>): void {
    this.#update(candidate);
  }

  /** Whether all that the replica has done was answered: a slot that is free before is for those who waited. */
  isAnswered({ expectedMs, replica }: Candidate<R>): boolean {
    return expectedMs.length === replica.dispatches;
  }

  /** Whether the replica works for the queue now: then others go before it. */
  isServing(candidate: Candidate<R>, queue: ModelQueue): boolean {
    return candidate.last === queue && candidate.expectedMs.length > 0;
  }

  has(candidate: Candidate<R>, queue: ModelQueue): boolean {
    const { replica } = candidate;
    if (replica.isLoading || queue.isGathering) return false;
    const { dispatches } = replica;
    // A load would hold up what runs, and what runs would hold up the load: it is bound when the replica is idle.
    if (!replica.models.has(queue.modelKey)) return dispatches === 0 && this.#observer.mayLoad(queue.modelKey);
    if (dispatches === 0) return true;
    // What lost its replica is to run alone: it may have ended it, or was there by chance and is not to be so again.
    if (queue.isRetrying || this.#waiting.isRetryingAny(replica.models)) return false;
    if (this.#isAnotherIdle(queue)) return false;
    return candidate.mayPrefetch(dispatches) && (this.#isVisiting(candidate, queue) || !this.#isLoadBefore(queue));
  }

  /** How many of the queue's requests the replica is given now, when it has a slot for them; at least 1. */
  share(candidate: Candidate<R>, queue: ModelQueue): number {
    const room = Math.max(1, candidate.maxOngoing - candidate.ongoing);
    return Math.min(this.#fairShare(candidate, queue), room);
  }

  /** What waits is shared among the warm replicas that are as free as this one; what gathered goes together. */
  #fairShare({ isIdle }: Candidate<R>, queue: ModelQueue): number {
    const { size, modelKey, batching } = queue;
    if (size <= 1 || batching.maxWaitMs > 0) return size;
    const candidates = isIdle ? this.#index.idle : this.#index.free;
    let free = 0;
    for (const other of warmAmong(this.#index.warm(modelKey), candidates, modelKey)) {
      if (isIdle ? other.isIdle : this.has(other, queue)) free += 1;
      if (free === size) break;
    }
    return Math.ceil(size / Math.max(1, free));
  }

  /** The queue that the replica stays with, if it can take requests of it now. */
  visited(candidate: Candidate<R>): ModelQueue | undefined {
    const queue = candidate.visit?.queue;
    return queue !== undefined && this.#isVisiting(candidate, queue) && this.has(candidate, queue) ? queue : undefined;
  }

  /** What an idle replica can begin now is not to wait behind what runs. */
  #isAnotherIdle({ modelKey }: ModelQueue): boolean {
    for (const other of warmAmong(this.#index.warm(modelKey), this.#index.idle, modelKey)) {
      if (other.isIdle) return true;
    }
    return false;
  }

  #isVisiting({ visit }: Candidate<R>, { modelKey, head }: ModelQueue): boolean {
    if (visit?.queue.modelKey !== modelKey || head === undefined) return false;
    const otherPriority = this.#waiting.firstAnywhere?.head?.priority ?? Number.NEGATIVE_INFINITY;
    return head.sequence < visit.untilSequence && head.priority >= otherPriority;
  }

  /** A model that is to be loaded needs an idle replica, which there never would be if others were always prefetched. */
  #isLoadBefore(queue: ModelQueue): boolean {
    const first = this.#waiting.firstAnywhere;
    return first !== undefined && isQueueBefore(first, queue);
  }

  /**
   * The first of what the replica was given runs from now on, or is loaded before it does.
   *
   * A load counts as part of its time here: so what is given ahead after a load waits no longer than that took, and need not be
   * loaded elsewhere for it. (With late binding even then the simulator has a tenth more loads where not all models fit.)
   */
  #begun(candidate: Candidate<R>): void {
    candidate.cancelTimer?.();
    candidate.cancelTimer = undefined;
    candidate.begunAt = this.#clock.now();
    const [expectedMs] = candidate.expectedMs;
    candidate.endsSoon = expectedMs !== undefined && expectedMs <= PREFETCH_MS;
    if (expectedMs === undefined || candidate.endsSoon || expectedMs === Number.POSITIVE_INFINITY) return;
    const ending = () => {
      candidate.cancelTimer = undefined;
      candidate.endsSoon = true;
      this.#update(candidate);
      this.#observer.freed(candidate);
    };
    candidate.cancelTimer = this.#clock.schedule(ending, expectedMs - PREFETCH_MS);
  }

  #update(candidate: Candidate<R>): void {
    this.#note(candidate, candidate.expectedMs.length);
  }

  #note(candidate: Candidate<R>, dispatches: number): void {
    const canWork = !candidate.replica.isLoading;
    const isFree = canWork && candidate.mayTake(dispatches);
    this.#index.setOccupancy(candidate, { isIdle: canWork && dispatches === 0, isFree });
  }
}
