import type { Clock } from '../clock.js';
import { InfermuxError, show, toInfermuxError } from '../errors.js';
import { FailureMemory } from '../protocol/failure-memory.js';
import { isQueueBefore, ModelQueue } from './model-queue.js';
import type {
  PendingRequest,
  RoutedAnswer,
  RoutedModel,
  RoutedRequest,
  RoutedResult,
  RoutingOptions,
} from './pending-request.js';
import { RateMeter } from './rate-meter.js';
import { ReplicaIndex } from './replica-index.js';
import type { ReplicaView, RequestRouter } from './request-router.js';
import { msUntilSpill } from './spill.js';
import { WaitingModels } from './waiting-models.js';

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

/** Told when there is work and when there is none, so that the process stays up for it. */
export interface DispatcherObserver {
  busy(): void;
  idle(): void;
}

/** A run that is expected to end so soon is worth hiding the next message behind it; a longer one is not. */
const PREFETCH_BELOW_MS = 1;
/** One dispatch that runs and one that is prefetched. */
const MOST_DISPATCHES = 2;
/** Inference has no side effect, so a request whose replica died is given to one more. */
const MOST_ATTEMPTS = 2;
/** What `QUEUE_FULL` suggests before anything was measured. */
const FIRST_RETRY_MS = 1_000;

interface Assignment {
  /** Dispatches without an answer yet. */
  unanswered: number;
  /** The queue that the last one came from. */
  last: ModelQueue | undefined;
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
  readonly #drainRate: RateMeter;
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
    this.#drainRate = new RateMeter(() => clock.now());
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
      const refusal = this.#refusal ?? this.#outage ?? this.#failedLoads.recall(request.model.key);
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
      this.#refuseOverflow(pending);
    });
  }

  addReplica(replica: R): void {
    this.#outage = undefined;
    this.#replicas.add(replica);
    this.#assignments.set(replica, { unanswered: 0, last: undefined });
    this.#serve(replica);
    // One more cold replica: those that waited for warm ones may spill to it when their time comes.
    for (const queue of this.#queues.values()) this.#park(queue);
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
      if (crash !== undefined && modelKey === replica.loadUnderWay) this.#failLoad(queue, crash);
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

  /** A load of the model took so long. */
  loadMeasured(modelKey: string, milliseconds: number): void {
    this.#queues.get(modelKey)?.times.addLoad(milliseconds);
  }

  /** No replica runs and none could be started: refuses what waits and what comes, until a replica is added. */
  declareOutage(error: InfermuxError): void {
    this.#outage = error;
    for (const pending of [...this.#unsettled]) {
      if (this.#isWaiting(pending)) this.#reject(pending, error);
    }
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
    for (const pending of [...this.#unsettled]) this.#reject(pending, error);
  }

  /** @returns false when the request is over already. */
  #arm(pending: PendingRequest): boolean {
    const { signal, deadline } = pending;
    const cancel = () => {
      this.#reject(pending, new InfermuxError('CANCELLED', 'the request was cancelled', { cause: signal?.reason }));
    };
    const expire = () => {
      const waitedMs = Math.round(this.#clock.now() - pending.acceptedAt);
      const where = this.#isWaiting(pending) ? 'while it waited for a replica' : 'while a replica worked on it';
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

  #refuseOverflow(pending: PendingRequest): void {
    const { maxQueuedRequests } = this.#options;
    if (maxQueuedRequests === -1 || this.#queued <= maxQueuedRequests || !this.#isWaiting(pending)) return;
    const rate = this.#drainRate.perMillisecond;
    const retryAfterMs = rate === undefined ? FIRST_RETRY_MS : Math.max(1, Math.ceil(this.#queued / rate));
    const message = `${maxQueuedRequests} requests wait already (maxQueuedRequests); try again in ${retryAfterMs} ms`;
    this.#reject(pending, new InfermuxError('QUEUE_FULL', message, { retryAfterMs }));
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
      shardKey: head.shardKey,
      waitedMs: this.#clock.now() - head.acceptedAt,
      expectedLoadMs: queue.times.loadMs,
    });
    for (const rank of ranks) {
      const shortest = this.#shortestFree(rank as readonly R[], modelKey);
      if (shortest !== undefined) return shortest;
    }
    return undefined;
  }

  #shortestFree(rank: readonly R[], modelKey: string): R | undefined {
    let shortest: R | undefined;
    for (const replica of rank) {
      if (!this.#hasSlot(replica, modelKey)) continue;
      if (shortest === undefined || replica.ongoing < shortest.ongoing) shortest = replica;
      if (shortest.ongoing === 0) break;
    }
    return shortest;
  }

  #hasSlot(replica: R, modelKey: string): boolean {
    if (replica.isLoading) return false;
    const { ongoing } = replica;
    if (ongoing === 0) return true;
    // A load would hold up what runs, and what runs would hold up the load: it is bound when the replica is idle.
    if (!replica.models.has(modelKey)) return false;
    const last = this.#assignments.get(replica)?.last;
    return (
      ongoing < Math.min(MOST_DISPATCHES, this.#options.maxOngoingRequests) &&
      (last?.times.runMs ?? Number.POSITIVE_INFINITY) <= PREFETCH_BELOW_MS
    );
  }

  /** Gives the replica work as long as it has a free slot and something waits that it may take. */
  #serve(replica: R): void {
    for (;;) {
      const queue = this.#nextFor(replica);
      if (queue === undefined) return;
      this.#give(queue, replica);
      this.#park(queue);
    }
  }

  #nextFor(replica: R): ModelQueue | undefined {
    const isFree = replica.ongoing === 0 && !replica.isLoading;
    let next = isFree ? this.#waiting.firstCold : undefined;
    for (const queue of this.#waiting.among(replica.models)) {
      if (next !== undefined && !isQueueBefore(queue, next)) continue;
      if (this.#hasSlot(replica, queue.modelKey)) next = queue;
    }
    return next ?? (isFree ? this.#waiting.firstSpilling : undefined);
  }

  #give(queue: ModelQueue, replica: R): void {
    const pending = queue.take();
    const assignment = this.#assignments.get(replica);
    if (pending === undefined || assignment === undefined) return;
    this.#queued -= 1;
    this.#drainRate.mark();
    pending.attempts += 1;
    pending.dispatchedAt = this.#clock.now();
    assignment.unanswered += 1;
    assignment.last = queue;
    this.#replicas.setIdle(replica, false);
    replica.run(pending.request).then(
      (answer) => {
        queue.times.addRun(answer.runMs);
        this.#resolve(pending, replica, answer);
        this.#answered(replica, assignment);
      },
      (cause: unknown) => {
        this.#failed(pending, toInfermuxError(cause));
        this.#answered(replica, assignment);
      },
    );
  }

  #answered(replica: R, assignment: Assignment): void {
    assignment.unanswered -= 1;
    if (!this.#replicas.has(replica)) return;
    if (assignment.unanswered === 0) this.#replicas.setIdle(replica, true);
    this.#serve(replica);
  }

  #failed(pending: PendingRequest, error: InfermuxError): void {
    if (!this.#unsettled.has(pending)) return;
    if (error.code !== 'REPLICA_FAILED') {
      this.#reject(pending, error);
      return;
    }
    const refusal = this.#failedLoads.recall(pending.request.model.key) ?? this.#outage;
    if (refusal !== undefined || pending.attempts >= MOST_ATTEMPTS) this.#reject(pending, refusal ?? error);
    else this.#enqueue(pending);
  }

  #failLoad(queue: ModelQueue, crash: InfermuxError): void {
    const id = queue.head?.request.model.id ?? queue.modelKey;
    const message = `model ${show(id)}: the replica died while it loaded it: ${crash.message}`;
    const error = new InfermuxError('MODEL_LOAD_FAILED', message, { cause: crash });
    this.#failedLoads.record(queue.modelKey, error);
    for (const pending of queue.requests()) this.#reject(pending, error);
  }

  /** Puts the queue where the replicas' free slots will find it, or takes it from there when nothing waits. */
  #park(queue: ModelQueue): void {
    const { head } = queue;
    if (head === undefined) {
      this.#waiting.delete(queue);
      this.#cancelSpillTimer(queue);
      return;
    }
    const warm = this.#replicas.warm(queue.modelKey).length;
    const waitedMs = this.#clock.now() - head.acceptedAt;
    const untilSpillMs = msUntilSpill({ waitedMs, expectedLoadMs: queue.times.loadMs });
    const canSpill = warm > 0 && warm < this.#replicas.size;
    if (warm === 0) this.#waiting.put(queue, 'cold');
    else this.#waiting.put(queue, canSpill && untilSpillMs <= 0 ? 'spilling' : 'warm');
    if (!canSpill || untilSpillMs <= 0) this.#cancelSpillTimer(queue);
    else this.#startSpillTimer(queue, untilSpillMs);
  }

  #startSpillTimer(queue: ModelQueue, delayMs: number): void {
    // A timer of an earlier head is early for this one: it looks again and starts the next.
    queue.cancelSpillTimer ??= this.#clock.schedule(() => {
      queue.cancelSpillTimer = undefined;
      this.#place(queue);
    }, delayMs);
  }

  #cancelSpillTimer(queue: ModelQueue): void {
    queue.cancelSpillTimer?.();
    queue.cancelSpillTimer = undefined;
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
    if (queue?.remove(pending) === true) {
      this.#queued -= 1;
      this.#park(queue);
    }
    tellCaller();
    if (this.#unsettled.size > 0) return;
    this.#observer.idle();
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }
}
