import type { Batching } from '../batching.js';
import type { Clock } from '../clock.js';
import { anew, InfermuxError, show, toInfermuxError } from '../errors.js';
import { FailureMemory } from '../failure-memory.js';
import type { ModelMetadata } from '../tensor.js';
import { AcceptedRequests } from './accepted-requests.js';
import { DenseSet } from './dense-set.js';
import { DrainRate } from './drain-rate.js';
import { firstWithSlot } from './first-with-slot.js';
import { handOut } from './hand-out.js';
import { isQueueBefore, ModelQueue } from './model-queue.js';
import type { PendingRequest, RoutedModel, RoutedRequest, RoutedResult } from './pending-request.js';
import { ReplicaIndex, warmAmong } from './replica-index.js';
import { type LoadingReplica, ReplicaSlots } from './replica-slots.js';
import type { RequestRouter } from './request-router.js';
import type { RoutedAnswer, RoutedDispatch } from './routed-dispatch.js';
import { type PendingDispatch, takeDispatch, toRoutedGroup } from './take-dispatch.js';
import { Turn } from './turn.js';
import { WaitingModels } from './waiting-models.js';
import { type WaitingPlace, waitingPlace } from './waiting-place.js';

/** A running replica, as the dispatcher needs it. */
export interface RoutableReplica extends LoadingReplica {
  /** The model whose load has begun in the thread and not ended. */
  readonly loadUnderWay: string | undefined;
  /**
   * Gives it requests. If the model is not among `models`, it is from now on, as loading.
   * Rejects with `REPLICA_FAILED` when the replica died or stopped before it answered: then another may be asked.
   */
  run(dispatch: RoutedDispatch): Promise<RoutedAnswer>;
}

export interface DispatcherOptions {
  /** Most requests given to a replica and not finished; -1 for no limit but two dispatches. */
  readonly maxOngoingRequests: number;
  /** Most requests that wait; -1 for no limit. */
  readonly maxQueuedRequests: number;
  readonly batching: Batching;
  /** Replicas are looked at after so many requests without an answer between them. Default: 256. */
  readonly lookAfterRequests?: number;
}

export interface DispatcherObserver {
  /** There is work from now on; the process must stay up for it. */
  busy(): void;
  /** There is none from now on. */
  idle(): void;
  /** The request is accepted, in the turn in which it was submitted; from now on it must not change. */
  accepted(request: RoutedRequest): void;
  /** Requests are given to the replica. */
  given(replica: string, requests: number): void;
  /** One of them waited so long. */
  waited(queueMs: number): void;
  /** A request was answered. */
  answered(model: RoutedModel, result: RoutedResult): void;
  /** A request was refused or answered with an error. */
  failed(error: InfermuxError): void;
  /** A call was made for so many requests at once. */
  called(model: RoutedModel, requests: number): void;
  /** The model's requests are joined no more. */
  batchingSwitchedOff(model: RoutedModel, reason: string): void;
}

/** Those of the promise that was made last. An executor of its own for each would be two objects more for each request. */
const settlers: Pick<PendingRequest, 'resolve' | 'reject'> = { resolve: () => undefined, reject: () => undefined };

function keepSettlers(resolve: (value: unknown) => void, reject: (error: Error) => void): void {
  settlers.resolve = resolve;
  settlers.reject = reject;
}

/** Inference has no side effect, so a request whose replica died is given to one more. */
const MOST_ATTEMPTS = 2;
/** A caller that sends so many requests without a pause has kept answers from being handled for a fifth of a millisecond. */
const LOOK_AFTER_REQUESTS = 256;

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
  readonly #batching: Batching;
  readonly #lookAfterRequests: number;
  readonly #router: RequestRouter;
  readonly #clock: Clock;
  readonly #observer: DispatcherObserver;
  readonly #replicas = new ReplicaIndex<R>();
  readonly #queues = new Map<string, ModelQueue>();
  /** Queues that are to be placed when the present turn is over. */
  readonly #deferred = new DenseSet<ModelQueue>();
  readonly #waiting = new WaitingModels();
  readonly #slots: ReplicaSlots<R>;
  readonly #turn: Turn;
  readonly #accepted: AcceptedRequests;
  readonly #failedLoads: FailureMemory;
  readonly #drainRate: DrainRate;
  #queued = 0;
  #sequence = 0;
  /** Requests since the last answer, but for those that its callers may send again. */
  #sentWithoutPause = 0;
  /** Why no request is accepted, if so. */
  #refusal: InfermuxError | undefined;
  /** Why no replica runs, if none can be had. */
  #outage: InfermuxError | undefined;

  constructor(options: DispatcherOptions, router: RequestRouter, clock: Clock, observer: DispatcherObserver) {
    const now = () => clock.now();
    this.#maxQueuedRequests = options.maxQueuedRequests;
    this.#batching = options.batching;
    this.#lookAfterRequests = options.lookAfterRequests ?? LOOK_AFTER_REQUESTS;
    this.#router = router;
    this.#clock = clock;
    this.#observer = observer;
    this.#failedLoads = new FailureMemory(now);
    this.#drainRate = new DrainRate(now);
    this.#turn = new Turn(clock);
    this.#slots = new ReplicaSlots(options.maxOngoingRequests, this.#replicas, this.#waiting, clock, {
      freed: (replica) => this.#serve(replica),
      mayLoad: (modelKey) => this.#failedLoads.recall(modelKey) === undefined,
    });
    this.#accepted = new AcceptedRequests(clock, {
      busy: () => observer.busy(),
      idle: () => observer.idle(),
      rejected: (error) => observer.failed(error),
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
   * @param read makes of the result what the promise resolves with; the result is the next request's after that.
   * @throws InfermuxError by rejection: `QUEUE_FULL`, `CANCELLED`, `DEADLINE_EXCEEDED`, `REPLICA_FAILED`, `ENGINE_CLOSED`,
   *   `MODEL_LOAD_FAILED`, or what the replica answered.
   */
  submit<T>(request: RoutedRequest, read: (result: RoutedResult) => T): Promise<T> {
    const refusal = this.#refusal ?? this.#outage ?? this.#loadRefusal(request.model.key);
    if (refusal !== undefined) {
      request.releaseFeeds?.();
      this.#observer.failed(refusal);
      return Promise.reject(anew(refusal));
    }
    const promise = new Promise<T>(
      keepSettlers as (resolve: (value: T) => void, reject: (error: Error) => void) => void,
    );
    // One object, and no other that lives as long: what waits is copied by the collector again and again.
    const pending: PendingRequest = {
      model: request.model,
      feeds: request.feeds,
      outputs: request.outputs,
      checked: request.checked,
      priority: request.priority,
      deadline: request.deadline,
      signal: request.signal,
      sequence: this.#sequence++,
      acceptedAt: this.#clock.now(),
      read,
      resolve: settlers.resolve,
      reject: settlers.reject,
      dispatchedAt: 0,
      attempts: 0,
      isWaiting: false,
      previous: undefined,
      next: undefined,
      position: undefined,
      cleanUp: request.releaseFeeds,
    };
    if (this.#accepted.add(pending)) {
      this.#enqueue(pending);
      if (!this.#refuseOverflow(pending)) this.#observer.accepted(request);
      this.#sentWithoutPause += 1;
      if (this.#sentWithoutPause >= this.#lookAfterRequests) this.#look();
    }
    return promise;
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

  /** A load of the model succeeded, took so long and told its inputs and outputs. */
  modelLoaded(model: RoutedModel, milliseconds: number, metadata: ModelMetadata): void {
    this.#failedLoads.forget(model.key);
    const { times, batching } = this.#queueOf(model);
    times.addLoad(milliseconds);
    batching.setMetadata(metadata);
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
    this.#placeDeferred();
    for (const queue of this.#waiting.all()) {
      this.#rejectWaiting(queue, error);
      this.#park(queue);
    }
  }

  #enqueue(pending: PendingRequest): void {
    const queue = this.#queueOf(pending.model);
    queue.add(pending);
    this.#queued += 1;
    // Behind another request there is nothing to try: that one found no free slot either.
    if (queue.head === pending || queue.isGathering) this.#placeSoon(queue);
  }

  /** The shared counters show which replicas are done, before their answers can be handled. */
  #look(): void {
    this.#sentWithoutPause = 0;
    this.#placeDeferred();
    for (const replica of this.#replicas.all()) this.#slots.lookAt(replica);
    for (const replica of [...this.#replicas.free]) this.#serve(replica);
  }

  /** Requests often come many at a time, above all when a batch was answered: all of them are here before any is placed. */
  #placeSoon(queue: ModelQueue): void {
    const isFirst = this.#deferred.items.length === 0;
    this.#deferred.add(queue);
    if (!isFirst) return;
    if (this.#turn.isOver) {
      this.#clock.nextTurn(() => this.#placeDeferred());
      return;
    }
    const since = this.#clock.now();
    this.#clock.defer(() => {
      this.#turn.callersTook(this.#clock.now() - since);
      this.#placeDeferred();
    });
  }

  #placeDeferred(): void {
    const queues = [...this.#deferred.items];
    for (const queue of queues) this.#deferred.remove(queue);
    for (const queue of queues) this.#place(queue);
  }

  /** @returns true when there was no place for the request to wait. */
  #refuseOverflow(pending: PendingRequest): boolean {
    const most = this.#maxQueuedRequests;
    if (most === -1 || this.#queued <= most) return false;
    this.#placeDeferred();
    if (!pending.isWaiting) return false;
    const retryAfterMs = this.#drainRate.retryAfterMs(this.#queued);
    const message = `${most} requests wait already (maxQueuedRequests); try again in ${retryAfterMs} ms`;
    this.#accepted.reject(pending, new InfermuxError('QUEUE_FULL', message, { retryAfterMs }));
    return true;
  }

  #queueOf(model: RoutedModel): ModelQueue {
    let queue = this.#queues.get(model.key);
    if (queue === undefined) {
      queue = new ModelQueue(model, this.#batching);
      this.#queues.set(model.key, queue);
    }
    return queue;
  }

  /** Gives the queue's requests to replicas as long as the router finds one with a free slot. */
  #place(queue: ModelQueue): void {
    queue.gathersUntil = this.#gatherUntil(queue);
    if (!queue.isGathering) {
      for (let head = queue.head; head !== undefined; head = queue.head) {
        const replica = this.#choose(queue, head);
        if (replica === undefined) break;
        const first = this.#whoseTurn(replica, queue);
        this.#give(first, replica);
        if (first !== queue) this.#park(first);
      }
    }
    this.#park(queue);
  }

  /**
   * The shared counters show a slot before the answer that freed it has arrived here; another model may have waited for it
   * longer, and would wait for ever if each new arrival went first.
   */
  #whoseTurn(replica: R, queue: ModelQueue): ModelQueue {
    const other = this.#nextFor(replica);
    const isOthers =
      other !== undefined && this.#isTurnBefore(replica, other, queue) && this.#slots.has(replica, other);
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
    if (!this.#replicas.has(replica)) return;
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
      if (next !== undefined && !this.#isTurnBefore(replica, queue, next)) continue;
      if (this.#slots.has(replica, queue)) next = queue;
    }
    return next ?? (isIdle ? this.#waiting.firstSpilling : undefined);
  }

  /** A model that the replica runs already is as good as served just now. */
  #isTurnBefore(replica: R, queue: ModelQueue, other: ModelQueue): boolean {
    const isEqual = queue.head?.priority === other.head?.priority;
    if (isEqual && this.#slots.isServing(replica, other)) return true;
    if (isEqual && this.#slots.isServing(replica, queue)) return false;
    return isQueueBefore(queue, other);
  }

  #give(queue: ModelQueue, replica: R): void {
    const { model, batching } = queue;
    const dispatch = takeDispatch(queue, Math.min(this.#fairShare(queue, replica), this.#slots.room(replica)));
    if (dispatch.requests === 0) return;
    queue.servedAt = this.#sequence;
    this.#queued -= dispatch.requests;
    this.#drainRate.left(dispatch.requests, this.#queued);
    this.#observer.given(replica.id, dispatch.requests);
    const now = this.#clock.now();
    for (const { requests } of dispatch.groups) {
      for (const pending of requests) {
        pending.attempts += 1;
        pending.dispatchedAt = now;
        this.#observer.waited(now - pending.acceptedAt);
      }
    }
    this.#slots.given(replica, queue, this.#sequence, dispatch.expectedMs ?? Number.POSITIVE_INFINITY);
    replica.run({ model, groups: dispatch.groups.map(toRoutedGroup), verify: batching.needsProof }).then(
      (answer) => {
        // First what waits, then those who will ask again: the replica is not to wait for them.
        this.#answered(replica, queue);
        this.#sentWithoutPause = -dispatch.requests;
        try {
          this.#resolveAll(queue, dispatch, replica, answer);
        } catch (cause) {
          // There may be no memory for the copies; those who have no answer yet get this one.
          this.#failAll(dispatch, cause);
        }
      },
      (cause: unknown) => {
        this.#failAll(dispatch, cause);
        this.#answered(replica, queue);
      },
    );
  }

  #failAll({ groups }: PendingDispatch, cause: unknown): void {
    const error = toInfermuxError(cause);
    for (const { requests } of groups) for (const pending of requests) this.#failed(pending, anew(error));
  }

  /** What waits is shared among the warm replicas that are as free as this one. */
  #fairShare(queue: ModelQueue, replica: R): number {
    const { size, modelKey } = queue;
    if (size <= 1) return size;
    const isIdle = this.#slots.isIdle(replica);
    const candidates = isIdle ? this.#replicas.idle : this.#replicas.free;
    let free = 0;
    for (const other of warmAmong(this.#replicas.warm(modelKey), candidates, modelKey)) {
      if (isIdle ? this.#slots.isIdle(other) : this.#slots.has(other, queue)) free += 1;
      if (free === size) break;
    }
    return Math.ceil(size / Math.max(1, free));
  }

  #resolveAll(queue: ModelQueue, dispatch: PendingDispatch, replica: R, answer: RoutedAnswer): void {
    const { model, batching, times } = queue;
    const { verification, loadMs } = answer;
    if (verification?.mismatch !== undefined) {
      if (batching.switchOff()) this.#observer.batchingSwitchedOff(model, verification.mismatch);
    } else if (verification !== undefined) batching.prove();
    const now = this.#clock.now();
    const result = { outputs: {}, replica: replica.id, batchSize: 0, queueMs: 0, loadMs, runMs: 0, totalMs: 0 };
    handOut(dispatch, answer, {
      called: (requests, rows, runMs, isRight) => {
        // What was refused took no time, and says nothing of what a call takes.
        if (runMs > 0) this.#observer.called(model, requests);
        if (isRight) times.calls.add(Math.max(1, rows), runMs);
      },
      failed: (pending, error) => this.#failed(pending, error),
      answered: (pending, outputs, runMs, batchSize) => {
        if (!this.#accepted.has(pending)) return;
        const { acceptedAt, dispatchedAt } = pending;
        result.outputs = outputs;
        result.batchSize = batchSize;
        result.queueMs = dispatchedAt - acceptedAt;
        result.runMs = runMs;
        result.totalMs = now - acceptedAt;
        this.#observer.answered(model, result);
        this.#accepted.resolve(pending, result);
      },
    });
  }

  #answered(replica: R, queue: ModelQueue): void {
    this.#turn.begin();
    queue.servedAt = this.#sequence;
    this.#waiting.turnChanged(queue);
    if (!this.#replicas.has(replica)) return;
    this.#slots.answered(replica);
    if (this.#turn.isOver) this.#clock.nextTurn(() => this.#serve(replica));
    else this.#serve(replica);
  }

  #failed(pending: PendingRequest, error: InfermuxError): void {
    if (!this.#accepted.has(pending)) return;
    if (error.code !== 'REPLICA_FAILED') {
      this.#accepted.reject(pending, error);
      return;
    }
    const refusal = this.#outage ?? this.#loadRefusal(pending.model.key);
    if (refusal !== undefined || pending.attempts >= MOST_ATTEMPTS)
      this.#accepted.reject(pending, anew(refusal ?? error));
    else this.#enqueue(pending);
  }

  #rememberFailedLoad(queue: ModelQueue, crash: InfermuxError): void {
    const message = `model ${show(queue.model.id)}: the replica died while it loaded it: ${crash.message}`;
    this.#failedLoads.record(queue.modelKey, new InfermuxError('MODEL_LOAD_FAILED', message, { cause: crash }));
  }

  /** Why the model can be had from no replica, if so: none has it, and its load killed one a short while ago. */
  #loadRefusal(modelKey: string): InfermuxError | undefined {
    return this.#replicas.warm(modelKey).length > 0 ? undefined : this.#failedLoads.recall(modelKey);
  }

  /** Time of the clock until which the queue's requests wait for company, if they do. */
  #gatherUntil({ batching, size, waitingSince }: ModelQueue): number | undefined {
    if (batching.maxWaitMs === 0 || waitingSince === undefined || size >= batching.maxSize) return undefined;
    const until = waitingSince + batching.maxWaitMs;
    return until > this.#clock.now() ? until : undefined;
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
      this.#stopTimer(queue);
      return undefined;
    }
    const { place, changesInMs } = waitingPlace({
      gatherMs: queue.gathersUntil === undefined ? undefined : queue.gathersUntil - this.#clock.now(),
      warmReplicas: this.#replicas.warm(queue.modelKey).length,
      replicas: this.#replicas.size,
      waitedMs: this.#waitedMs(queue),
      expectedLoadMs: queue.times.loadMs,
      mayLoadInMs: this.#failedLoads.recall(queue.modelKey)?.retryAfterMs ?? 0,
    });
    this.#waiting.put(queue, place);
    if (changesInMs === undefined) this.#stopTimer(queue);
    else this.#startTimer(queue, changesInMs);
    return place;
  }

  #rejectWaiting(queue: ModelQueue, error: InfermuxError): void {
    for (let pending = queue.take(); pending !== undefined; pending = queue.take()) {
      this.#queued -= 1;
      this.#accepted.reject(pending, anew(error));
    }
  }

  #startTimer(queue: ModelQueue, delayMs: number): void {
    const at = this.#clock.now() + delayMs;
    // One that rings too early looks again and starts the next.
    if (queue.timer !== undefined && queue.timer.at <= at) return;
    this.#stopTimer(queue);
    const ring = () => {
      queue.timer = undefined;
      this.#place(queue);
    };
    queue.timer = { at, cancel: this.#clock.schedule(ring, delayMs) };
  }

  #stopTimer(queue: ModelQueue): void {
    queue.timer?.cancel();
    queue.timer = undefined;
  }

  /** A request that has its answer waits no more, and the next one may go where it could not. */
  #leaveQueue(pending: PendingRequest): void {
    const queue = this.#queues.get(pending.model.key);
    if (queue?.remove(pending) !== true) return;
    this.#queued -= 1;
    this.#place(queue);
  }
}
