import type { Clock } from '../../../common/clock.js';
import type { PendingDispatch } from '../../batches/take-dispatch.js';
import { isQueueBefore, type ModelQueue } from '../../queues/model-queue.js';
import type { WaitingModels } from '../../queues/waiting-models.js';
import { type Candidate, CONCURRENT_REQUESTS, type RoutableReplica } from './candidate.js';
import { type ReplicaIndex, warmAmong } from './replica-index.js';

export interface ReplicaSlotsObserver<R extends RoutableReplica> {
  /** The replica's dispatch is expected to end soon, so the replica can be given the next one. */
  freed(candidate: Candidate<R>): void;
  /** Whether the model may be loaded at present. */
  mayLoad(modelKey: string): boolean;
  /** Whether the queue's next requests may wait behind the run that the replica is to end soon. */
  mayFollow(candidate: Candidate<R>, queue: ModelQueue): boolean;
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

  /** @param maxOngoing most ongoing requests; infinite: no limit but that of dispatches. Undefined: the default. */
  configure(candidate: Candidate<R>, maxOngoing: number | undefined): void {
    candidate.maxOngoing = maxOngoing ?? (candidate.isConcurrent ? CONCURRENT_REQUESTS : Number.POSITIVE_INFINITY);
    this.#update(candidate);
  }

  /**
   * Call it before the replica is told.
   *
   * @param sequence a number of its own: higher than those of the requests that have arrived, and no later one's.
   */
  given(candidate: Candidate<R>, queue: ModelQueue, sequence: number, dispatch: PendingDispatch): void {
    const { expectedMs = Number.POSITIVE_INFINITY, wide } = dispatch;
    candidate.expectedMs.push(expectedMs);
    if (dispatch.isRetry) candidate.lone += 1;
    if (dispatch.isMethod && candidate.takesBatches) candidate.beside += 1;
    candidate.last = queue;
    if (!candidate.models.has(wide?.key ?? queue.modelKey)) candidate.visit = { queue, untilSequence: sequence };
    if (candidate.expectedMs.length === 1) this.#begun(candidate);
    this.#update(candidate);
  }

  answered(candidate: Candidate<R>, dispatch: PendingDispatch): void {
    const { expectedMs = Number.POSITIVE_INFINITY, isRetry, isMethod } = dispatch;
    // A handler's requests are answered in any order.
    const isInOrder = candidate.replica.handles === undefined;
    const index = isInOrder ? 0 : candidate.expectedMs.indexOf(expectedMs);
    candidate.expectedMs.splice(index, 1);
    if (isRetry) candidate.lone -= 1;
    if (isMethod && candidate.takesBatches) candidate.beside -= 1;
    this.#begun(candidate);
    this.#update(candidate);
  }

  /** Notes the dispatches that the replica has finished by now, although their answers have not been handled. */
  lookAt(candidate: Candidate<R>): void {
    this.#note(candidate, candidate.replica.dispatches);
  }

  /** Call it when the replica began or ended a load, or waits for more or fewer requests of its own. */
  changed(candidate: Candidate<R>): void {
    this.#update(candidate);
  }

  /** Whether all finished dispatches were answered. A slot that is free before that is for requests that waited. */
  isAnswered({ expectedMs, replica }: Candidate<R>): boolean {
    return expectedMs.length === replica.dispatches;
  }

  /** Whether the replica works for the queue now: then other queues go before it. */
  isServing(candidate: Candidate<R>, queue: ModelQueue): boolean {
    return candidate.last === queue && candidate.expectedMs.length > 0;
  }

  has(candidate: Candidate<R>, queue: ModelQueue): boolean {
    const { replica } = candidate;
    if (replica.isLoading || queue.isGathering) return false;
    const dispatches = candidate.dispatchesBefore(queue);
    const isWarm = replica.models.has(queue.modelKey);
    if (!isWarm && !this.#observer.mayLoad(queue.modelKey)) return false;
    if (dispatches <= 0) return true;
    // A request that lost its replica runs alone: it may have ended the replica, or must not be there by chance again.
    if (queue.isRetrying || this.#waiting.isRetryingAny(replica.models)) return false;
    if (candidate.mayBegin(dispatches)) return true;
    // A load would hold up the running dispatch, and be held up by it: a cold model waits until the replica is idle.
    if (!isWarm || this.#isAnotherIdle(queue)) return false;
    if (!candidate.mayPrefetch(dispatches) || !this.#observer.mayFollow(candidate, queue)) return false;
    return this.#isVisiting(candidate, queue) || !this.#isLoadBefore(queue);
  }

  /** How many of the queue's requests the replica is given now, if it has a slot; at least 1. */
  share(candidate: Candidate<R>, queue: ModelQueue): number {
    if (candidate.isConcurrent) return 1;
    const room = Math.max(1, candidate.maxOngoing - candidate.ongoing);
    return Math.min(this.#fairShare(candidate, queue), room);
  }

  /** Divides what waits by the warm replicas that are as free as this one; requests that gathered go together. */
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

  /** The queue that the replica is visiting, if it can take requests of it now. */
  visited(candidate: Candidate<R>): ModelQueue | undefined {
    const queue = candidate.visit?.queue;
    return queue !== undefined && this.#isVisiting(candidate, queue) && this.has(candidate, queue) ? queue : undefined;
  }

  /** A request that an idle replica can begin now must not wait behind a running dispatch. */
  #isAnotherIdle({ modelKey }: ModelQueue): boolean {
    for (const other of warmAmong(this.#index.warm(modelKey), this.#index.idle, modelKey)) {
      if (other.isIdle) return true;
    }
    return false;
  }

  #isVisiting({ visit, models }: Candidate<R>, queue: ModelQueue): boolean {
    if (visit?.queue.modelKey !== queue.modelKey || queue.place >= visit.untilSequence) return false;
    // The load failed, or the model has left since: then it is not loaded here again for the sake of the visit.
    if (!models.has(queue.modelKey)) return false;
    // Shadow requests go behind all others.
    return !queue.isShadow || this.#waiting.firstAnywhere?.isShadow !== false;
  }

  /** A model to be loaded needs an idle replica, and there is none while other models are always prefetched. */
  #isLoadBefore(queue: ModelQueue): boolean {
    const first = this.#waiting.firstAnywhere;
    return first !== undefined && isQueueBefore(first, queue);
  }

  /**
   * The replica's first dispatch begins now, with a load if it needs one.
   *
   * A load counts as part of the dispatch's time here: so a dispatch given ahead after a load waits no longer than the
   * load took, and its model need not be loaded elsewhere. (With late binding even then, the simulator has a tenth more
   * loads where not all models fit.)
   */
  #begun(candidate: Candidate<R>): void {
    candidate.cancelTimer?.();
    candidate.cancelTimer = undefined;
    candidate.begunAt = this.#clock.now();
    // A handler's requests begin as they come.
    if (candidate.replica.handles !== undefined) return;
    const [expectedMs] = candidate.expectedMs;
    // When a dispatch is expected to end soon, the next is given ahead; before, late binding is worth more.
    const { leadMs } = candidate.replica;
    candidate.endsSoon = expectedMs !== undefined && expectedMs <= leadMs;
    if (expectedMs === undefined || candidate.endsSoon || expectedMs === Number.POSITIVE_INFINITY) return;
    const ending = () => {
      candidate.cancelTimer = undefined;
      candidate.endsSoon = true;
      this.#update(candidate);
      this.#observer.freed(candidate);
    };
    candidate.cancelTimer = this.#clock.schedule(ending, expectedMs - leadMs);
  }

  #update(candidate: Candidate<R>): void {
    this.#note(candidate, candidate.expectedMs.length);
  }

  #note(candidate: Candidate<R>, dispatches: number): void {
    const { isLoading, awaiting } = candidate.replica;
    const { beside, hasRoomBeside } = candidate;
    const isIdle = !isLoading && candidate.mayBegin(dispatches - beside);
    const isFree = !isLoading && (hasRoomBeside || candidate.mayTake(dispatches - Math.max(awaiting, beside)));
    this.#index.setOccupancy(candidate, { isIdle, isFree });
  }
}
