import type { Clock } from '../common/clock.js';
import { DenseSet } from '../common/dense-set.js';
import { cloneError, InfermuxError, toInfermuxError } from '../common/errors.js';
import type { Batching } from '../contracts/batching.js';
import { isHandlerKey, NO_MODEL } from '../contracts/handler.js';
import {
  DEFAULT_ROUTER,
  type Order,
  type RequestRouter,
  type RouterName,
  type RoutingStats,
} from '../contracts/request-router.js';
import type { ModelMetadata } from '../tensors/tensor.js';
import { deliverAnswers } from './batches/deliver-answers.js';
import type { RoutedAnswer } from './batches/routed-dispatch.js';
import { type DispatchScope, type PendingDispatch, takeDispatch, toRoutedGroup } from './batches/take-dispatch.js';
import { DrainRate } from './estimates/drain-rate.js';
import type { PendingRequest, RoutedModel, RoutedRequest, RoutedResult } from './pending-request.js';
import { LoadBackoff } from './placement/load-backoff.js';
import type { ModelCopy } from './placement/model-copies.js';
import { Placement, type PlacementRules } from './placement/placement.js';
import type { Candidate, RoutableReplica } from './placement/replicas/candidate.js';
import { ReplicaIndex } from './placement/replicas/replica-index.js';
import { AcceptedRequests } from './queues/accepted-requests.js';
import { ModelQueue } from './queues/model-queue.js';
import { PowerOfTwoChoicesRouter } from './routers/by-model/power-of-two-choices-router.js';
import { createRouter } from './routers/create-router.js';
import type { RouterFault } from './routers/guarded-router.js';

export interface DispatcherOptions {
  /** Most requests given to a replica and not finished; -1 for no limit but two dispatches. */
  readonly maxOngoingRequests: number;
  /** Most requests that wait; -1 for no limit. */
  readonly maxQueuedRequests: number;
  readonly batching: Batching;
  /** Default: two choices. */
  readonly router?: RouterName | RequestRouter;
  /** Default: models take turns. */
  readonly order?: Order;
  /** Replicas are looked at after so many requests without an answer between them. Default: 256. */
  readonly lookAfterRequests?: number;
}

export interface DispatcherObserver {
  /** There is work from now on; the process must stay up for it. */
  busy(): void;
  /** There is none from now on. */
  idle(): void;
  /** A request came, whatever becomes of it. */
  submitted(): void;
  /** The request is accepted, in the turn in which it was submitted; from now on it must not change. */
  accepted(request: RoutedRequest): void;
  /** Requests are given to the replica. */
  given(replica: string, requests: number): void;
  /** One of them waited so long. */
  waited(queueMs: number): void;
  /** A request was answered. */
  answered(model: RoutedModel, result: RoutedResult): void;
  /** A request was refused or answered with an error. */
  failed(error: InfermuxError, isShadow: boolean): void;
  /** A call was made for so many requests at once. */
  called(model: RoutedModel, requests: number): void;
  /** The model's requests are joined no more. */
  batchingSwitchedOff(model: RoutedModel, reason: string): void;
  /**
   * The router did what it should not have; the default one is asked in its place.
   *
   * @param isFirst the first time that this router did it.
   */
  routerFailed(fault: RouterFault, error: InfermuxError, isFirst: boolean): void;
}

/** Those of the promise that was made last. An executor of its own for each would be two objects more for each request. */
const settlers: Pick<PendingRequest, 'resolve' | 'reject'> = { resolve: () => undefined, reject: () => undefined };

function keepSettlers(resolve: (value: unknown) => void, reject: (error: Error) => void): void {
  settlers.resolve = resolve;
  settlers.reject = reject;
}

/** Inference has no side effect, so a request whose replica died is given to one more. */
const MOST_ATTEMPTS = 2;
const NONE: readonly string[] = [];
/** So many may wait beside shadow requests where there is no limit. */
const UNLIMITED_BESIDE_SHADOWS = 2_048;
/** A model is in use for so long after a request for it. */
const IN_USE_MS = 60_000;
/** A caller that sends so many requests without a pause has kept answers from being handled for a fifth of a millisecond. */
const LOOK_AFTER_REQUESTS = 256;

/**
 * Binds requests to replicas as late as it can: they wait in one queue per model, and leave it when a replica that the
 * router accepts has a free slot. Whatever frees a slot wakes it; nothing polls. Which one is given what is decided by its
 * {@link Placement}.
 */
export class Dispatcher<R extends RoutableReplica = RoutableReplica> {
  #maxQueuedRequests: number;
  #batching: Batching;
  readonly #lookAfterRequests: number;
  readonly #clock: Clock;
  readonly #observer: DispatcherObserver;
  readonly #replicas = new ReplicaIndex<Candidate<R>>();
  readonly #random: () => number;
  readonly #queues = new Map<string, ModelQueue>();
  readonly #placement: Placement<R>;
  readonly #accepted: AcceptedRequests;
  readonly #loadBackoff: LoadBackoff;
  readonly #drainRate: DrainRate;
  /** Shadow requests that wait. */
  readonly #shadows = new DenseSet<PendingRequest>();
  /** What each replica was given and has not answered, in order. */
  readonly #given = new WeakMap<R, PendingDispatch[]>();
  #router: RouterName | RequestRouter;
  /** Replicas that were told to stop: what they do not finish is none of its requests' doing. */
  readonly #leaving = new WeakSet<R>();
  #queued = 0;
  #sequence = 0;
  /** Requests since the last answer, but for those that its callers may send again. */
  #sentWithoutPause = 0;
  /** Why no request is accepted, if so. */
  #refusal: InfermuxError | undefined;
  /** Why no replica runs, if none can be had. */
  #outage: InfermuxError | undefined;

  /** @param random uniform in [0, 1). */
  constructor(options: DispatcherOptions, random: () => number, clock: Clock, observer: DispatcherObserver) {
    this.#maxQueuedRequests = options.maxQueuedRequests;
    this.#batching = options.batching;
    this.#lookAfterRequests = options.lookAfterRequests ?? LOOK_AFTER_REQUESTS;
    this.#clock = clock;
    this.#observer = observer;
    this.#drainRate = new DrainRate(() => clock.now());
    this.#loadBackoff = new LoadBackoff(clock, (modelKey) => this.#replicas.warm(modelKey).length > 0);
    this.#random = random;
    const queueOf = (modelKey: string) => this.#queues.get(modelKey);
    this.#placement = new Placement(rulesOf(options), this.#replicas, queueOf, this.#loadBackoff, clock, {
      copy: (copy) => this.#copy(copy),
      give: (queue, candidate, most, scope) => this.#give(queue, candidate, most, scope),
      refused: (queue, error) => this.#rejectWaiting(queue, error),
    });
    this.#router = options.router ?? DEFAULT_ROUTER;
    this.#useRouter();
    this.#accepted = new AcceptedRequests(clock, {
      busy: () => observer.busy(),
      idle: () => observer.idle(),
      rejected: ({ isShadow }, error) => observer.failed(error, isShadow),
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
    this.#observer.submitted();
    const refusal = this.#refusal ?? this.#outage ?? this.#loadBackoff.refusal(request.model.key);
    if (refusal !== undefined) {
      request.releaseFeeds?.();
      this.#observer.failed(refusal, request.isShadow);
      return Promise.reject(cloneError(refusal));
    }
    const promise = new Promise<T>(
      keepSettlers as (resolve: (value: T) => void, reject: (error: Error) => void) => void,
    );
    // One object, and no other that lives as long: what waits is copied by the collector again and again.
    const pending: PendingRequest = {
      model: request.model,
      feeds: request.feeds,
      payload: request.payload,
      isShadow: request.isShadow,
      outputs: request.outputs,
      shardKey: request.shardKey,
      labels: request.labels,
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
      if (!this.#refuseOverflow(pending) && this.#accepted.has(pending)) this.#observer.accepted(request);
      this.#sentWithoutPause += 1;
      if (this.#sentWithoutPause >= this.#lookAfterRequests) {
        this.#sentWithoutPause = 0;
        this.#placement.look();
      }
    }
    return promise;
  }

  /** From now on; what waits goes by it too, but for the limit of how many may wait. */
  configure(options: Omit<DispatcherOptions, 'lookAfterRequests'>): void {
    const { maxQueuedRequests, batching, router = DEFAULT_ROUTER } = options;
    this.#maxQueuedRequests = maxQueuedRequests;
    this.#batching = batching;
    for (const queue of this.#queues.values()) queue.configure(batching);
    if (router !== this.#router) {
      this.#router = router;
      this.#useRouter();
    }
    this.#placement.configure(rulesOf(options));
  }

  #useRouter(): void {
    const told = new Set<RouterFault>();
    const fallback = new PowerOfTwoChoicesRouter(this.#random);
    const router = createRouter(this.#router, this.#random);
    this.#placement.use(router, fallback, (fault, error) => {
      this.#observer.routerFailed(fault, error, !told.has(fault));
      told.add(fault);
    });
  }

  /** Whether a request for the model waits, or one came a short while ago. */
  isInUse(modelKey: string): boolean {
    const queue = this.#queues.get(modelKey);
    if (queue === undefined) return false;
    return queue.head !== undefined || this.#clock.now() - queue.lastGivenAt < IN_USE_MS;
  }

  addReplica(replica: R): void {
    this.#outage = undefined;
    this.#placement.addReplica(replica);
  }

  /**
   * Takes the replica out of everything at once. What it was given comes back by its rejected promises.
   *
   * @param crash why its thread died, if it did; the model it was loading then is not loaded again for a while, since the
   *   load might end the next thread too.
   */
  removeReplica(replica: R, crash?: InfermuxError): void {
    if (crash === undefined) this.#leaving.add(replica);
    else this.#leaving.delete(replica);
    const own = [...replica.models.keys()].flatMap((key) => this.#queues.get(key) ?? []);
    const queues = this.#placement.removeReplica(replica, own, crash);
    if (queues === undefined) return;
    const loading = own.find(({ modelKey }) => modelKey === replica.loadUnderWay);
    if (crash !== undefined && loading !== undefined) this.#loadBackoff.recordCrash(loading.model, crash);
    for (const queue of queues) this.#placement.place(queue);
  }

  /** To be called after the model appeared in or disappeared from the replica, or was loaded. */
  modelChanged(replica: R, modelKey: string): void {
    const queue = this.#queues.get(modelKey);
    this.#placement.modelChanged(replica, modelKey, queue);
    if (queue !== undefined) this.#forgetTransient(queue);
  }

  /** What routers see of how the replica fares; undefined when it takes no requests. */
  routingStats(replica: R): RoutingStats | undefined {
    return this.#placement.statsOf(replica);
  }

  /** A load of the model succeeded, took so long and told its inputs and outputs. */
  modelLoaded(replica: R, model: RoutedModel, milliseconds: number, metadata: ModelMetadata): void {
    this.#placement.modelLoaded(replica, milliseconds);
    this.#loadBackoff.forget(model.key);
    const { times, batching } = this.#queueOf(model);
    times.addLoad(milliseconds);
    batching.setMetadata(metadata);
  }

  /** Why the model is not to be loaded now, if so: its load has ended a thread a short while ago. */
  loadRefusal(model: RoutedModel): InfermuxError | undefined {
    // Were this load to end one too, it would be known which model it was.
    this.#queueOf(model);
    return this.#loadBackoff.loadRefusal(model.key);
  }

  /** Resolves when no accepted request is for the model. To be called when no more will come. */
  untilModelUnused(modelKey: string): Promise<void> {
    return this.#accepted.untilNoneOf(modelKey);
  }

  /** A handler is asked for whatever its callers think of: what no replica has and nobody waits for is not kept. */
  #forgetTransient({ model: { key } }: ModelQueue): void {
    if (isHandlerKey(key) && key !== NO_MODEL && this.#replicas.warm(key).length === 0) this.forgetModel(key);
  }

  /** Nobody will ask for the model again, and no request for it is left. */
  forgetModel(modelKey: string): void {
    const queue = this.#queues.get(modelKey);
    if (queue === undefined || queue.head !== undefined) return;
    this.#placement.forget(queue);
    this.#queues.delete(modelKey);
    this.#loadBackoff.forget(modelKey);
  }

  /** No replica runs and none could be started: refuses what waits and what comes, until a replica is added. */
  declareOutage(error: InfermuxError): void {
    this.#outage = error;
    this.#rejectAllWaiting(error);
  }

  /** There is hope again: requests are accepted, though no replica runs yet. */
  endOutage(): void {
    this.#outage = undefined;
  }

  /** Whether no accepted request is without an answer. */
  get isIdle(): boolean {
    return this.#accepted.isEmpty;
  }

  /** Refuses new requests; accepted ones go on, but for copies of others, and wait for no company. */
  close(refusal: InfermuxError): void {
    this.#refusal ??= refusal;
    for (const shadow of [...this.#shadows.items]) this.#accepted.reject(shadow, cloneError(refusal));
    this.#placement.stopGathering();
  }

  /** Resolves when no accepted request is without an answer. */
  untilIdle(): Promise<void> {
    return this.#accepted.untilNone();
  }

  /** Refuses new requests and rejects all accepted ones. */
  destroy(error: InfermuxError): void {
    this.#refusal ??= error;
    this.#rejectAllWaiting(error);
    for (const pending of this.#accepted.all()) this.#accepted.reject(pending, cloneError(error));
  }

  #rejectAllWaiting(error: InfermuxError): void {
    for (const queue of this.#placement.waiting()) {
      this.#rejectWaiting(queue, error);
      this.#placement.place(queue);
    }
  }

  #enqueue(pending: PendingRequest): void {
    const queue = this.#queueOf(pending.model);
    queue.add(pending);
    this.#queued += 1;
    if (pending.isShadow) this.#shadows.add(pending);
    this.#placement.arrived(queue, pending);
    if (this.#shadows.items.length > 0) this.#shedShadows();
  }

  /** They go first when half of the places to wait are taken. */
  #shedShadows(): void {
    const most = this.#maxQueuedRequests === -1 ? UNLIMITED_BESIDE_SHADOWS : this.#maxQueuedRequests / 2;
    // Some of what came in this turn may not have to wait.
    if (this.#queued > most) this.#placement.placeNow();
    for (
      let last = this.#shadows.items.at(-1);
      last !== undefined && this.#queued > most;
      last = this.#shadows.items.at(-1)
    ) {
      const message = 'the copy of a request was dropped: half of the places to wait are taken (maxQueuedRequests)';
      this.#accepted.reject(last, new InfermuxError('QUEUE_FULL', message));
    }
  }

  /** It waits no more. */
  #leftQueue(pending: PendingRequest): void {
    this.#queued -= 1;
    if (pending.isShadow) this.#shadows.delete(pending);
  }

  /** @returns true when there was no place for the request to wait. */
  #refuseOverflow(pending: PendingRequest): boolean {
    const most = this.#maxQueuedRequests;
    if (most === -1 || this.#queued <= most) return false;
    this.#placement.placeNow();
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

  #give(queue: ModelQueue, candidate: Candidate<R>, most: number, scope: DispatchScope | undefined): void {
    const { replica } = candidate;
    const { model, batching } = queue;
    const dispatch = takeDispatch(queue, most, scope);
    if (dispatch.requests === 0) return;
    this.#observer.given(replica.id, dispatch.requests);
    const now = this.#clock.now();
    queue.lastGivenAt = now;
    for (const { requests } of dispatch.groups) {
      for (const pending of requests) {
        this.#leftQueue(pending);
        pending.attempts += 1;
        pending.dispatchedAt = now;
        this.#observer.waited(now - pending.acceptedAt);
      }
    }
    this.#drainRate.drained(dispatch.requests, this.#queued);
    this.#placement.given(candidate, queue, dispatch, this.#sequence);
    const given = this.#givenTo(replica);
    given.push(dispatch);
    const spare = replica.models.has(model.key) ? NONE : this.#placement.spareOn(candidate);
    replica.run({ model, groups: dispatch.groups.map(toRoutedGroup), spare, verify: batching.needsProof }).then(
      (answer) => {
        given.splice(given.indexOf(dispatch), 1);
        // First what waits, then those who will ask again: the replica is not to wait for them.
        this.#placement.answered(candidate, queue, dispatch, this.#sequence);
        this.#forgetTransient(queue);
        this.#sentWithoutPause = -dispatch.requests;
        try {
          this.#resolveAll(queue, dispatch, candidate, answer);
        } catch (cause) {
          // There may be no memory for the copies; those who have no answer yet get this one.
          this.#failAll(dispatch, cause);
        }
      },
      (cause: unknown) => {
        this.#replicaFailed(replica, dispatch, given, cause);
        this.#placement.answered(candidate, queue, dispatch, this.#sequence);
        this.#forgetTransient(queue);
      },
    );
    this.#placement.routed(candidate, queue, dispatch);
  }

  /** A failure is remembered: the model can be had where it is. */
  #copy({ queue: { model }, candidate: { replica }, spare }: ModelCopy<R>): void {
    // What is still to be answered is answered soon.
    if (this.#refusal !== undefined) return;
    replica.load(model, { pin: false, spare }).then(undefined, (cause: unknown) => {
      const error = toInfermuxError(cause);
      if (error.code === 'MODEL_LOAD_FAILED') this.#loadBackoff.recordFailure(model, error);
    });
  }

  #givenTo(replica: R): PendingDispatch[] {
    let given = this.#given.get(replica);
    if (given === undefined) {
      given = [];
      this.#given.set(replica, given);
    }
    return given;
  }

  /** A replica that died had begun the first of what it was given and had not answered; the rest was there by chance. */
  #replicaFailed(replica: R, dispatch: PendingDispatch, given: PendingDispatch[], cause: unknown): void {
    const isDead = cause instanceof InfermuxError && cause.code === 'REPLICA_FAILED';
    if (!isDead) given.splice(given.indexOf(dispatch), 1);
    else if (given[0] !== dispatch || this.#leaving.has(replica)) {
      for (const { requests } of dispatch.groups) for (const pending of requests) pending.attempts -= 1;
    }
    this.#failAll(dispatch, cause);
  }

  #failAll({ groups }: PendingDispatch, cause: unknown): void {
    const error = toInfermuxError(cause);
    for (const { requests } of groups) for (const pending of requests) this.#failed(pending, cloneError(error));
  }

  #resolveAll(queue: ModelQueue, dispatch: PendingDispatch, candidate: Candidate<R>, answer: RoutedAnswer): void {
    const { model, batching, times } = queue;
    const { verification, loadMs } = answer;
    if (verification?.mismatch !== undefined) {
      if (batching.switchOff()) this.#observer.batchingSwitchedOff(model, verification.mismatch);
    } else if (verification !== undefined) batching.prove();
    const now = this.#clock.now();
    const result = { outputs: {}, replica: candidate.id, batchSize: 0, queueMs: 0, loadMs, runMs: 0, totalMs: 0 };
    let ran = 0;
    let totalRunMs = 0;
    deliverAnswers(dispatch, answer, {
      called: (requests, rows, runMs, isRight) => {
        // What was refused took no time, and says nothing of what a call takes.
        if (runMs > 0) {
          this.#observer.called(model, requests);
          ran += requests;
          totalRunMs += runMs;
        }
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
    if (ran > 0) this.#placement.worked(candidate, queue, ran, totalRunMs);
  }

  #failed(pending: PendingRequest, error: InfermuxError): void {
    if (!this.#accepted.has(pending)) return;
    const { model, payload } = pending;
    // A handler may fail of a model that its request does not name.
    const isOwnLoad = error.code === 'MODEL_LOAD_FAILED' && payload === undefined;
    if (isOwnLoad && this.#replicas.warm(model.key).length > 0) {
      // It was to spill, and can be had where it is: its file may have been replaced since by one that is broken.
      this.#loadBackoff.recordFailure(model, error);
      pending.attempts -= 1;
      this.#enqueue(pending);
      return;
    }
    if (error.code !== 'REPLICA_FAILED') {
      this.#accepted.reject(pending, error);
      return;
    }
    const refusal = this.#outage ?? this.#loadBackoff.refusal(model.key);
    if (refusal !== undefined || pending.attempts >= MOST_ATTEMPTS)
      this.#accepted.reject(pending, cloneError(refusal ?? error));
    else this.#enqueue(pending);
  }

  #rejectWaiting(queue: ModelQueue, error: InfermuxError): void {
    for (let pending = queue.take(); pending !== undefined; pending = queue.take()) {
      this.#leftQueue(pending);
      this.#accepted.reject(pending, cloneError(error));
    }
  }

  /** A request that has its answer waits no more, and the next one may go where it could not. */
  #leaveQueue(pending: PendingRequest): void {
    const queue = this.#queues.get(pending.model.key);
    if (queue?.remove(pending) !== true) return;
    this.#leftQueue(pending);
    this.#placement.place(queue);
  }
}

function rulesOf({ maxOngoingRequests, order = 'model' }: DispatcherOptions): PlacementRules {
  return { order, maxOngoing: maxOngoingRequests === -1 ? Number.POSITIVE_INFINITY : maxOngoingRequests };
}
