import type { Clock } from '../clock.js';
import { InfermuxError, show, toInfermuxError } from '../errors.js';
import { FailureMemory } from '../failure-memory.js';
import { firstWithSlot } from './first-with-slot.js';
import { isQueueBefore, ModelQueue } from './model-queue.js';
import { MovingAverage } from './moving-average.js';
import type {
  PendingRequest,
  RoutedAnswer,
  RoutedModel,
  RoutedRequest,
  RoutedResult,
  RoutingOptions,
} from './pending-request.js';
import { ReplicaIndex } from './replica-index.js';
import type { ReplicaView, RequestRouter } from './request-router.js';
import { msUntilSpill } from './spill.js';
import { WaitingModels, type WaitingPlace } from './waiting-models.js';

/** A running replica, as the dispatcher needs it. */
export interface RoutableReplica extends ReplicaView {
  /** True from the order of a load until it ended; the thread is blocked. */
  readonly isLoading: boolean;
  /** The model whose load has begun in the thread and not ended. */
  readonly loadUnderWay: string | undefined;
  /**
   * Gives it a request. If the model is not among `models`, it is from now on, as loading.
   * Rejects with `REPLICA_FAILED` when the replica died or stopped before it answered: then another may be asked.
   */
  run(request: RoutedRequest): Promise<RoutedAnswer>;
}

export interface DispatcherOptions {
  /** Most requests given to a replica and not finished. */
  readonly maxOngoingRequests: number;
  /** Most requests that wait; -1 for no limit. */
  readonly maxQueuedRequests: number;
}

export interface DispatcherObserver {
  /** There is work from now on; the process must stay up for it. */
  busy(): void;
  /** There is none from now on. */
  idle(): void;
  /** A request that waited so long is given to the replica. */
  given(replica: string, queueMs: number): void;
}

/** A run that is expected to end so soon is worth hiding the next message behind it; a longer one is not. */
const PREFETCH_BELOW_MS = 1;
/** One dispatch that runs and one that is prefetched. */
const MOST_DISPATCHES = 2;
/** Inference has no side effect, so a request whose replica died is given to one more. */
const MOST_ATTEMPTS = 2;
/** What `QUEUE_FULL` suggests before anything was measured. */
const FIRST_RETRY_MS = 1_000;
/** Gaps between requests that leave the queue differ much, a load from a run: they are averaged over about fifty. */
const GAP_WEIGHT = 0.02;

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

/**
 * Binds requests to replicas as late as it can: they wait in one queue per model, and leave it when a replica that the
 * router accepts has a free slot. Whatever frees a slot wakes it; nothing polls.
 *
 * A slot goes to the first of the models that the replica has, or that no replica has. A model that waits for other,
 * busy replicas gets a load of its own here only when it has waited long enough and the replica has nothing else to do:
 * so spilling takes idle capacity and cannot make two loaded replicas evict each other's models.
 */
export class Dispatcher<R extends RoutableReplica = RoutableReplica> {
  readonly #options: DispatcherOptions;
  readonly #router: RequestRouter;
  readonly #clock: Clock;
  readonly #observer: DispatcherObserver;
  readonly #replicas = new ReplicaIndex<R>();
  readonly #assignments = new Map<R, Assignment>();
  readonly #queues = new Map<string, ModelQueue>();
  readonly #waiting = new WaitingModels();
  readonly #unsettled = new Set<PendingRequest>();
  readonly #failedLoads: FailureMemory;
  /** Milliseconds between two requests that leave the queue while more wait. */
  readonly #drainGap = new MovingAverage(GAP_WEIGHT);
  #lastLeftAt: number | undefined;
  #idleWaiters: (() => void)[] = [];
  #queued = 0;
  #sequence = 0;
  /** Why no request is accepted, if so. */
  #refusal: InfermuxError | undefined;
  /** Why no replica runs, if none can be had. */
  #outage: InfermuxError | undefined;

  constructor(options: DispatcherOptions, router: RequestRouter, clock: Clock, observer: DispatcherObserver) {
    this.#options = options;
    this.#router = router;
    this.#clock = clock;
    this.#observer = observer;
    this.#failedLoads = new FailureMemory(() => clock.now());
  }

  /** Requests that wait for a replica. */
  get queued(): number {
    return this.#queued;
  }

  /**
   * Accepts a request and answers it, once.
   *
   * @throws InfermuxError by rejection: `QUEUE_FULL`, `CANCELLED`, `DEADLINE_EXCEEDED`, `REPLICA_FAILED`, `ENGINE_CLOSED`,
   *   `MODEL_LOAD_FAILED`, or what the replica answered.
   */
  submit(request: RoutedRequest, options: RoutingOptions): Promise<RoutedResult> {
    return new Promise((resolve, reject) => {
      const refusal = this.#refusal ?? this.#outage ?? this.#loadRefusal(request.model.key);
      if (refusal !== undefined) {
        reject(refusal);
        return;
      }
      const pending: PendingRequest = {
        ...options,
        sequence: this.#sequence++,
        request,
        acceptedAt: this.#clock.now(),
        resolve,
        reject,
        dispatchedAt: 0,
        attempts: 0,
        disarm: () => undefined,
      };
      if (this.#unsettled.size === 0) this.#observer.busy();
      this.#unsettled.add(pending);
      if (!this.#arm(pending)) return;
      this.#enqueue(pending);
      if (!this.#refuseOverflow(pending)) request.onAccepted();
    });
  }

  addReplica(replica: R): void {
    this.#outage = undefined;
    this.#replicas.add(replica);
    this.#assignments.set(replica, { unanswered: 0, last: undefined, visit: undefined });
    // One more cold replica: models that wait for warm ones may spill to it now or when their time comes.
    for (const queue of this.#waiting.all()) this.#park(queue);
    this.#serve(replica);
  }

  /**
   * Takes the replica out of everything at once. What it was given comes back by its rejected promises.
   *
   * @param crash why its thread died, if it did; the model it was loading then is not loaded again for a while, since the
   *   load might end the next thread too.
   */
  removeReplica(replica: R, crash?: InfermuxError): void {
    if (!this.#replicas.has(replica)) return;
    this.#replicas.delete(replica);
    this.#assignments.delete(replica);
    for (const modelKey of replica.models.keys()) {
      const queue = this.#queues.get(modelKey);
      if (queue === undefined) continue;
      if (crash !== undefined && modelKey === replica.loadUnderWay) this.#rememberFailedLoad(queue, crash);
      this.#place(queue);
    }
  }

  /** To be called after the model appeared in or disappeared from the replica, or was loaded. */
  modelChanged(replica: R, modelKey: string): void {
    this.#replicas.modelChanged(replica, modelKey);
    const queue = this.#queues.get(modelKey);
    if (queue !== undefined) this.#place(queue);
    // A load that ended lets the replica take other work.
    if (this.#replicas.has(replica) && !replica.isLoading) this.#serve(replica);
  }

  /** A load of the model succeeded and took so long. */
  loadMeasured(modelKey: string, milliseconds: number): void {
    this.#failedLoads.forget(modelKey);
    this.#queues.get(modelKey)?.times.addLoad(milliseconds);
  }

  /** No replica runs and none could be started: refuses what waits and what comes, until a replica is added. */
  declareOutage(error: InfermuxError): void {
    this.#outage = error;
    this.#rejectAllWaiting(error);
  }

  /** Refuses new requests; accepted ones go on. */
  close(refusal: InfermuxError): void {
    this.#refusal ??= refusal;
  }

  /** Resolves when no accepted request is without an answer. */
  untilIdle(): Promise<void> {
    if (this.#unsettled.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Refuses new requests and rejects all accepted ones. */
  destroy(error: InfermuxError): void {
    this.close(error);
    this.#rejectAllWaiting(error);
    for (const pending of [...this.#unsettled]) this.#reject(pending, error);
  }

  #rejectAllWaiting(error: InfermuxError): void {
    for (const queue of this.#waiting.all()) {
      this.#rejectWaiting(queue, error);
      this.#park(queue);
    }
  }

  /** @returns false when the request is over already. */
  #arm(pending: PendingRequest): boolean {
    const { signal, deadline } = pending;
    const cancel = () => {
      this.#reject(pending, new InfermuxError('CANCELLED', 'the request was cancelled', { cause: signal?.reason }));
    };
    const expire = () => {
      const waitedMs = Math.round(this.#clock.now() - pending.acceptedAt);
      const isGiven = pending.attempts > 0 && !this.#isWaiting(pending);
      const where = isGiven ? 'while a replica worked on it' : 'while it waited for a replica';
      this.#reject(
        pending,
        new InfermuxError('DEADLINE_EXCEEDED', `the deadline passed after ${waitedMs} ms, ${where}`),
      );
    };
    if (signal?.aborted === true) {
      cancel();
      return false;
    }
    if (deadline !== undefined && deadline <= pending.acceptedAt) {
      expire();
      return false;
    }
    signal?.addEventListener('abort', cancel, { once: true });
    const cancelTimer =
      deadline === undefined ? undefined : this.#clock.schedule(expire, deadline - pending.acceptedAt);
    pending.disarm = () => {
      signal?.removeEventListener('abort', cancel);
      cancelTimer?.();
    };
    return true;
  }

  #enqueue(pending: PendingRequest): void {
    const queue = this.#queueOf(pending.request.model);
    queue.add(pending);
    this.#queued += 1;
    // Behind another request there is nothing to try: that one found no free slot either.
    if (queue.head === pending) this.#place(queue);
  }

  /** @returns true when there was no place for the request to wait. */
  #refuseOverflow(pending: PendingRequest): boolean {
    const { maxQueuedRequests } = this.#options;
    if (maxQueuedRequests === -1 || this.#queued <= maxQueuedRequests || !this.#isWaiting(pending)) return false;
    const gapMs = this.#drainGap.value;
    const retryAfterMs = gapMs === undefined ? FIRST_RETRY_MS : Math.max(1, Math.ceil(this.#queued * gapMs));
    const message = `${maxQueuedRequests} requests wait already (maxQueuedRequests); try again in ${retryAfterMs} ms`;
    this.#reject(pending, new InfermuxError('QUEUE_FULL', message, { retryAfterMs }));
    return true;
  }

  #queueOf(model: RoutedModel): ModelQueue {
    let queue = this.#queues.get(model.key);
    if (queue === undefined) {
      queue = new ModelQueue(model);
      this.#queues.set(model.key, queue);
    }
    return queue;
  }

  #isWaiting(pending: PendingRequest): boolean {
    return this.#queues.get(pending.request.model.key)?.has(pending) ?? false;
  }

  /** Gives the queue's requests to replicas as long as the router finds one with a free slot. */
  #place(queue: ModelQueue): void {
    for (let head = queue.head; head !== undefined; head = queue.head) {
      const replica = this.#choose(queue, head);
      if (replica === undefined) break;
      this.#give(queue, replica);
    }
    this.#park(queue);
  }

  #choose(queue: ModelQueue, head: PendingRequest): R | undefined {
    const { modelKey } = queue;
    const ranks = this.#router.chooseReplicas(this.#replicas, {
      modelKey,
      priority: head.priority,
      waitedMs: this.#waitedMs(queue),
      expectedLoadMs: queue.times.loadMs,
    });
    return firstWithSlot(ranks as readonly Iterable<R>[], (replica) => this.#hasSlot(replica, queue));
  }

  #hasSlot(replica: R, queue: ModelQueue): boolean {
    if (replica.isLoading) return false;
    const { ongoing } = replica;
    if (!replica.models.has(queue.modelKey)) {
      // A load would hold up what runs, and what runs would hold up the load: it is bound when the replica is idle.
      return ongoing === 0 && this.#failedLoads.recall(queue.modelKey) === undefined;
    }
    if (ongoing === 0) return true;
    return this.#mayPrefetch(replica, ongoing) && (this.#isVisiting(replica, queue) || !this.#isColdBefore(queue));
  }

  #mayPrefetch(replica: R, ongoing: number): boolean {
    const lastRunMs = this.#assignments.get(replica)?.last?.times.runMs ?? Number.POSITIVE_INFINITY;
    return ongoing < Math.min(MOST_DISPATCHES, this.#options.maxOngoingRequests) && lastRunMs <= PREFETCH_BELOW_MS;
  }

  /** A model that is to be loaded needs an idle replica, which there never would be if others were always prefetched. */
  #isColdBefore(queue: ModelQueue): boolean {
    const cold = this.#waiting.firstCold;
    return cold !== undefined && isQueueBefore(cold, queue);
  }

  #isVisiting(replica: R, { modelKey, head }: ModelQueue): boolean {
    const visit = this.#assignments.get(replica)?.visit;
    if (visit?.queue.modelKey !== modelKey || head === undefined) return false;
    const coldPriority = this.#waiting.firstCold?.head?.priority ?? Number.NEGATIVE_INFINITY;
    return head.sequence < visit.untilSequence && head.priority >= coldPriority;
  }

  /** Gives the replica work as long as it has a free slot and something waits that it may take. */
  #serve(replica: R): void {
    const spilling = new Set<ModelQueue>();
    for (let queue = this.#nextFor(replica); queue !== undefined; queue = this.#nextFor(replica)) {
      this.#give(queue, replica);
      if (this.#park(queue) === 'spilling') spilling.add(queue);
    }
    // The next request may have waited long enough for another replica, where the one before it had not.
    for (const queue of spilling) this.#place(queue);
  }

  #nextFor(replica: R): ModelQueue | undefined {
    const visited = this.#assignments.get(replica)?.visit?.queue;
    if (visited !== undefined && this.#isVisiting(replica, visited) && this.#hasSlot(replica, visited)) return visited;
    const isFree = replica.ongoing === 0 && !replica.isLoading;
    let next = isFree ? this.#waiting.firstCold : undefined;
    for (const queue of this.#waiting.among(replica.models)) {
      if (next !== undefined && !isQueueBefore(queue, next)) continue;
      if (this.#hasSlot(replica, queue)) next = queue;
    }
    return next ?? (isFree ? this.#waiting.firstSpilling : undefined);
  }

  #give(queue: ModelQueue, replica: R): void {
    const pending = queue.take();
    const assignment = this.#assignments.get(replica);
    if (pending === undefined || assignment === undefined) return;
    this.#left();
    pending.attempts += 1;
    pending.dispatchedAt = this.#clock.now();
    this.#observer.given(replica.id, pending.dispatchedAt - pending.acceptedAt);
    assignment.unanswered += 1;
    assignment.last = queue;
    if (!replica.models.has(queue.modelKey)) assignment.visit = { queue, untilSequence: this.#sequence };
    const answer = replica.run(pending.request);
    this.#updateOccupancy(replica, assignment);
    answer.then(
      ({ outputs, loadMs, runMs }) => {
        queue.times.addRun(runMs);
        this.#resolve(pending, replica, { outputs, loadMs, runMs });
        this.#answered(replica, assignment);
      },
      (cause: unknown) => {
        this.#failed(pending, toInfermuxError(cause));
        this.#answered(replica, assignment);
      },
    );
  }

  /** One request less waits. */
  #left(): void {
    const now = this.#clock.now();
    this.#queued -= 1;
    if (this.#lastLeftAt !== undefined) this.#drainGap.add(now - this.#lastLeftAt);
    this.#lastLeftAt = this.#queued > 0 ? now : undefined;
  }

  #answered(replica: R, assignment: Assignment): void {
    assignment.unanswered -= 1;
    if (!this.#replicas.has(replica)) return;
    this.#updateOccupancy(replica, assignment);
    this.#serve(replica);
  }

  #updateOccupancy(replica: R, { unanswered }: Assignment): void {
    const isIdle = unanswered === 0;
    this.#replicas.setOccupancy(replica, { isIdle, isFree: isIdle || this.#mayPrefetch(replica, unanswered) });
  }

  #failed(pending: PendingRequest, error: InfermuxError): void {
    if (!this.#unsettled.has(pending)) return;
    if (error.code !== 'REPLICA_FAILED') {
      this.#reject(pending, error);
      return;
    }
    const refusal = this.#outage ?? this.#loadRefusal(pending.request.model.key);
    if (refusal !== undefined || pending.attempts >= MOST_ATTEMPTS) this.#reject(pending, refusal ?? error);
    else this.#enqueue(pending);
  }

  #rememberFailedLoad(queue: ModelQueue, crash: InfermuxError): void {
    const message = `model ${show(queue.modelId)}: the replica died while it loaded it: ${crash.message}`;
    this.#failedLoads.record(queue.modelKey, new InfermuxError('MODEL_LOAD_FAILED', message, { cause: crash }));
  }

  /** Why the model can be had from no replica, if so: none has it, and its load killed one a short while ago. */
  #loadRefusal(modelKey: string): InfermuxError | undefined {
    return this.#replicas.warm(modelKey).length > 0 ? undefined : this.#failedLoads.recall(modelKey);
  }

  #waitedMs(queue: ModelQueue): number {
    const now = this.#clock.now();
    return now - (queue.waitingSince ?? now);
  }

  /** Puts the queue where the replicas' free slots will find it, or takes it from there when nothing waits. */
  #park(queue: ModelQueue): WaitingPlace | undefined {
    const refusal = this.#loadRefusal(queue.modelKey);
    if (refusal !== undefined) this.#rejectWaiting(queue, refusal);
    if (queue.head === undefined) {
      this.#waiting.delete(queue);
      this.#stopSpillTimer(queue);
      return undefined;
    }
    const warm = this.#replicas.warm(queue.modelKey).length;
    const untilSpillMs = msUntilSpill({ waitedMs: this.#waitedMs(queue), expectedLoadMs: queue.times.loadMs });
    const canSpill = warm > 0 && warm < this.#replicas.size && this.#failedLoads.recall(queue.modelKey) === undefined;
    const place = warm === 0 ? 'cold' : canSpill && untilSpillMs <= 0 ? 'spilling' : 'warm';
    this.#waiting.put(queue, place);
    if (canSpill && untilSpillMs > 0) this.#startSpillTimer(queue, untilSpillMs);
    else this.#stopSpillTimer(queue);
    return place;
  }

  #rejectWaiting(queue: ModelQueue, error: InfermuxError): void {
    for (let pending = queue.take(); pending !== undefined; pending = queue.take()) {
      this.#queued -= 1;
      this.#reject(pending, error);
    }
  }

  #startSpillTimer(queue: ModelQueue, delayMs: number): void {
    const at = this.#clock.now() + delayMs;
    // One that rings too early looks again and starts the next.
    if (queue.spillTimer !== undefined && queue.spillTimer.at <= at) return;
    this.#stopSpillTimer(queue);
    const ring = () => {
      queue.spillTimer = undefined;
      this.#place(queue);
    };
    queue.spillTimer = { at, cancel: this.#clock.schedule(ring, delayMs) };
  }

  #stopSpillTimer(queue: ModelQueue): void {
    queue.spillTimer?.cancel();
    queue.spillTimer = undefined;
  }

  #resolve(pending: PendingRequest, replica: R, answer: RoutedAnswer): void {
    const { acceptedAt, dispatchedAt } = pending;
    const result = {
      ...answer,
      replica: replica.id,
      queueMs: dispatchedAt - acceptedAt,
      totalMs: this.#clock.now() - acceptedAt,
    };
    this.#settle(pending, () => pending.resolve(result));
  }

  #reject(pending: PendingRequest, error: InfermuxError): void {
    this.#settle(pending, () => pending.reject(error));
  }

  #settle(pending: PendingRequest, tellCaller: () => void): void {
    if (!this.#unsettled.delete(pending)) return;
    pending.disarm();
    const queue = this.#queues.get(pending.request.model.key);
    const wasWaiting = queue?.remove(pending) === true;
    if (wasWaiting) this.#queued -= 1;
    tellCaller();
    // The next in its queue may go where this one could not.
    if (wasWaiting && queue !== undefined) this.#place(queue);
    if (this.#unsettled.size > 0) return;
    this.#observer.idle();
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }
}
