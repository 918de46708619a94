import type { Clock } from '../clock.js';
import { anew, InfermuxError, show, toInfermuxError } from '../errors.js';
import { FailureMemory } from '../failure-memory.js';
import { AcceptedRequests } from './accepted-requests.js';
import { DrainRate } from './drain-rate.js';
import { firstWithSlot } from './first-with-slot.js';
import { isQueueBefore, ModelQueue } from './model-queue.js';
import type {
  PendingRequest,
  RoutedAnswer,
  RoutedModel,
  RoutedRequest,
  RoutedResult,
  RoutingOptions,
} from './pending-request.js';
import { ReplicaIndex } from './replica-index.js';
import { type LoadingReplica, ReplicaSlots } from './replica-slots.js';
import type { RequestRouter } from './request-router.js';
import { WaitingModels } from './waiting-models.js';
import { type WaitingPlace, waitingPlace } from './waiting-place.js';

/** A running replica, as the dispatcher needs it. */
export interface RoutableReplica extends LoadingReplica {
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

/** Inference has no side effect, so a request whose replica died is given to one more. */
const MOST_ATTEMPTS = 2;

/**
 * Binds requests to replicas as late as it can: they wait in one queue per model, and leave it when a replica that the
 * router accepts has a free slot. Whatever frees a slot wakes it; nothing polls.
 *
 * A slot goes to the first of the models that the replica has, or that no replica has. A model that waits for other,
 * busy replicas gets a load of its own here only when it has waited long enough and the replica has nothing else to do:
 * so spilling takes idle capacity and cannot make two loaded replicas evict each other's models. Only when it has waited
 * very long is it served in its turn anywhere.
 */
export class Dispatcher<R extends RoutableReplica = RoutableReplica> {
  readonly #maxQueuedRequests: number;
  readonly #router: RequestRouter;
  readonly #clock: Clock;
  readonly #observer: DispatcherObserver;
  readonly #replicas = new ReplicaIndex<R>();
  readonly #queues = new Map<string, ModelQueue>();
  readonly #waiting = new WaitingModels();
  readonly #slots: ReplicaSlots<R>;
  readonly #accepted: AcceptedRequests;
  readonly #failedLoads: FailureMemory;
  readonly #drainRate: DrainRate;
  #queued = 0;
  #sequence = 0;
  /** Why no request is accepted, if so. */
  #refusal: InfermuxError | undefined;
  /** Why no replica runs, if none can be had. */
  #outage: InfermuxError | undefined;

  constructor(options: DispatcherOptions, router: RequestRouter, clock: Clock, observer: DispatcherObserver) {
    const now = () => clock.now();
    this.#maxQueuedRequests = options.maxQueuedRequests;
    this.#router = router;
    this.#clock = clock;
    this.#observer = observer;
    this.#failedLoads = new FailureMemory(now);
    this.#drainRate = new DrainRate(now);
    const mayLoad = (modelKey: string) => this.#failedLoads.recall(modelKey) === undefined;
    this.#slots = new ReplicaSlots(options.maxOngoingRequests, this.#replicas, this.#waiting, mayLoad);
    this.#accepted = new AcceptedRequests(clock, {
      busy: () => observer.busy(),
      idle: () => observer.idle(),
      settled: (pending) => this.#leaveQueue(pending),
    });
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
        reject(anew(refusal));
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
        isWaiting: false,
        disarm: () => undefined,
      };
      if (!this.#accepted.add(pending)) return;
      this.#enqueue(pending);
      if (!this.#refuseOverflow(pending)) request.onAccepted();
    });
  }

  addReplica(replica: R): void {
    this.#outage = undefined;
    this.#replicas.add(replica);
    this.#slots.add(replica);
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
    this.#slots.delete(replica);
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
    return this.#accepted.untilNone();
  }

  /** Refuses new requests and rejects all accepted ones. */
  destroy(error: InfermuxError): void {
    this.close(error);
    this.#rejectAllWaiting(error);
    for (const pending of this.#accepted.all()) this.#accepted.reject(pending, anew(error));
  }

  #rejectAllWaiting(error: InfermuxError): void {
    for (const queue of this.#waiting.all()) {
      this.#rejectWaiting(queue, error);
      this.#park(queue);
    }
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
    const most = this.#maxQueuedRequests;
    if (most === -1 || this.#queued <= most || !pending.isWaiting) return false;
    const retryAfterMs = this.#drainRate.retryAfterMs(this.#queued);
    const message = `${most} requests wait already (maxQueuedRequests); try again in ${retryAfterMs} ms`;
    this.#accepted.reject(pending, new InfermuxError('QUEUE_FULL', message, { retryAfterMs }));
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

  /** Gives the queue's requests to replicas as long as the router finds one with a free slot. */
  #place(queue: ModelQueue): void {
    for (let head = queue.head; head !== undefined; head = queue.head) {
      const replica = this.#choose(queue, head);
      if (replica === undefined) break;
      const first = this.#whoseTurn(replica, queue);
      this.#give(first, replica);
      if (first !== queue) this.#park(first);
    }
    this.#park(queue);
  }

  /**
   * The shared counters show a slot before the answer that freed it has arrived here; another model may have waited for it
   * longer, and would wait for ever if each new arrival went first.
   */
  #whoseTurn(replica: R, queue: ModelQueue): ModelQueue {
    const other = this.#nextFor(replica);
    const isOthers = other !== undefined && isQueueBefore(other, queue) && this.#slots.has(replica, other);
    return isOthers ? other : queue;
  }

  #choose(queue: ModelQueue, head: PendingRequest): R | undefined {
    const { modelKey } = queue;
    const ranks = this.#router.chooseReplicas(this.#replicas, {
      modelKey,
      priority: head.priority,
      waitedMs: this.#waitedMs(queue),
      expectedLoadMs: queue.times.loadMs,
    });
    return firstWithSlot(ranks as readonly Iterable<R>[], (replica) => this.#slots.has(replica, queue));
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
    const visited = this.#slots.visited(replica);
    if (visited !== undefined) return visited;
    const isIdle = this.#slots.isIdle(replica);
    let next = isIdle ? this.#waiting.firstAnywhere : undefined;
    for (const queue of this.#waiting.among(replica.models)) {
      if (next !== undefined && !isQueueBefore(queue, next)) continue;
      if (this.#slots.has(replica, queue)) next = queue;
    }
    return next ?? (isIdle ? this.#waiting.firstSpilling : undefined);
  }

  #give(queue: ModelQueue, replica: R): void {
    const pending = queue.take();
    if (pending === undefined) return;
    this.#queued -= 1;
    this.#drainRate.left(this.#queued);
    pending.attempts += 1;
    pending.dispatchedAt = this.#clock.now();
    this.#observer.given(replica.id, pending.dispatchedAt - pending.acceptedAt);
    this.#slots.given(replica, queue, this.#sequence);
    replica.run(pending.request).then(
      (answer) => {
        queue.times.addRun(answer.runMs);
        this.#accepted.resolve(pending, this.#resultOf(pending, replica, answer));
        this.#answered(replica);
      },
      (cause: unknown) => {
        this.#failed(pending, toInfermuxError(cause));
        this.#answered(replica);
      },
    );
  }

  #resultOf({ acceptedAt, dispatchedAt }: PendingRequest, { id }: R, answer: RoutedAnswer): RoutedResult {
    const { outputs, loadMs, runMs } = answer;
    const totalMs = this.#clock.now() - acceptedAt;
    return { outputs, replica: id, queueMs: dispatchedAt - acceptedAt, loadMs, runMs, totalMs };
  }

  #answered(replica: R): void {
    if (!this.#replicas.has(replica)) return;
    this.#slots.answered(replica);
    this.#serve(replica);
  }

  #failed(pending: PendingRequest, error: InfermuxError): void {
    if (!this.#accepted.has(pending)) return;
    if (error.code !== 'REPLICA_FAILED') {
      this.#accepted.reject(pending, error);
      return;
    }
    const refusal = this.#outage ?? this.#loadRefusal(pending.request.model.key);
    if (refusal !== undefined || pending.attempts >= MOST_ATTEMPTS)
      this.#accepted.reject(pending, anew(refusal ?? error));
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
    const { place, changesInMs } = waitingPlace({
      warmReplicas: this.#replicas.warm(queue.modelKey).length,
      replicas: this.#replicas.size,
      waitedMs: this.#waitedMs(queue),
      expectedLoadMs: queue.times.loadMs,
      mayLoadInMs: this.#failedLoads.recall(queue.modelKey)?.retryAfterMs ?? 0,
    });
    this.#waiting.put(queue, place);
    if (changesInMs === undefined) this.#stopSpillTimer(queue);
    else this.#startSpillTimer(queue, changesInMs);
    return place;
  }

  #rejectWaiting(queue: ModelQueue, error: InfermuxError): void {
    for (let pending = queue.take(); pending !== undefined; pending = queue.take()) {
      this.#queued -= 1;
      this.#accepted.reject(pending, anew(error));
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

  /** A request that has its answer waits no more, and the next one may go where it could not. */
  #leaveQueue(pending: PendingRequest): void {
    const queue = this.#queues.get(pending.request.model.key);
    if (queue?.remove(pending) !== true) return;
    this.#queued -= 1;
    this.#place(queue);
  }
}
