import type { Clock } from '../common/clock.js';
import { cloneError, InfermuxError, toInfermuxError } from '../common/errors.js';
import { isHandlerKey, NO_MODEL } from '../contracts/handler.js';
import { narrowKeyOf } from '../contracts/model-reference.js';
import { DEFAULT_ROUTER, type RequestRouter, type RouterName, type RoutingStats } from '../contracts/request-router.js';
import type { ModelMetadata } from '../tensors/tensor.js';
import { RunBars } from './bars/run-bars.js';
import { UnwantedRuns } from './bars/unwanted-runs.js';
import { AnsweredDispatches } from './batches/answered-dispatches.js';
import { DispatchSender } from './batches/dispatch-sender.js';
import { FailedRequests } from './batches/failed-requests.js';
import { GivenDispatches } from './batches/given-dispatches.js';
import { RetryingRequests } from './batches/retrying-requests.js';
import type { DispatcherObserver, DispatcherOptions } from './dispatcher-options.js';
import { HandledWork } from './handled-work.js';
import {
  newPromise,
  PendingRequest,
  type RoutedModel,
  type RoutedRequest,
  type RoutedResult,
} from './pending-request.js';
import { LoadBackoff } from './placement/load-backoff.js';
import type { ModelCopy } from './placement/model-copies.js';
import { Placement } from './placement/placement.js';
import { rulesOf } from './placement/placement-rules.js';
import type { Candidate, RoutableReplica } from './placement/replicas/candidate.js';
import { Candidates } from './placement/replicas/candidates.js';
import { ReplicaIndex } from './placement/replicas/replica-index.js';
import { AcceptedRequests } from './queues/accepted-requests.js';
import { Admission } from './queues/admission.js';
import type { ModelQueue } from './queues/model-queue.js';
import { ModelQueues } from './queues/model-queues.js';
import { QueueLimit } from './queues/queue-limit.js';
import { SoughtRequests } from './queues/sought-requests.js';
import { PowerOfTwoChoicesRouter } from './routers/by-model/power-of-two-choices-router.js';
import { createRouter } from './routers/create-router.js';
import type { RouterFault } from './routers/guarded-router.js';
import { WaitingRequests } from './waiting-requests.js';

/** A model counts as in use for this long after a request for it. */
const IN_USE_MS = 60_000;
/** A caller that sends this many requests without a pause has held back the handling of answers for 0.2 ms. */
const LOOK_AFTER_REQUESTS = 256;

/**
 * Binds requests to replicas as late as possible: a request waits in the queue of its model, and leaves it when a
 * replica that the router accepts has a free slot. Each event that frees a slot wakes the dispatcher; nothing polls.
 * The {@link Placement} decides which replica gets which requests.
 */
export class Dispatcher<R extends RoutableReplica = RoutableReplica> {
  /** Which models may be loaded now. */
  readonly loads: LoadBackoff;
  readonly #cores: number;
  readonly #loadRetries: number;
  readonly #lookAfterRequests: number;
  readonly #clock: Clock;
  readonly #observer: DispatcherObserver;
  readonly #replicas = new ReplicaIndex<Candidate<R>>();
  readonly #random: () => number;
  readonly #queues: ModelQueues;
  readonly #candidates: Candidates<R>;
  readonly #placement: Placement<R>;
  readonly #accepted: AcceptedRequests;
  readonly #limit: QueueLimit;
  readonly #waiting: WaitingRequests;
  /** The models and requests that end replicas. */
  readonly bars: RunBars;
  /** Requests for models that are being looked for. */
  readonly sought: SoughtRequests;
  /** What handlers do beside answering. */
  readonly handled: HandledWork<R>;
  readonly given = new GivenDispatches<R>();
  readonly #unwanted: UnwantedRuns<R>;
  readonly #answers: AnsweredDispatches<R>;
  readonly #failures: FailedRequests;
  readonly #retrying: RetryingRequests;
  readonly #sender: DispatchSender<R>;
  #router: RouterName | RequestRouter;
  /** Numbers arrivals, and beside them the times at which models were served: so no two turns are equal. */
  #sequence = 0;
  /** Requests since the last answer; starts below 0, since each caller of that answer may send one again. */
  #sentWithoutPause = 0;
  readonly #admission = new Admission();

  /** @param random uniform in [0, 1). */
  constructor(options: DispatcherOptions, random: () => number, clock: Clock, observer: DispatcherObserver) {
    this.#queues = new ModelQueues(options.batching);
    this.#cores = options.cores ?? 1;
    this.#loadRetries = options.loadRetries ?? 0;
    this.#lookAfterRequests = options.lookAfterRequests ?? LOOK_AFTER_REQUESTS;
    this.#clock = clock;
    this.#observer = observer;
    this.loads = new LoadBackoff(this.#queues, this.#replicas, clock);
    this.#random = random;
    this.bars = new RunBars(clock, {
      barred: (...barred) => observer.barred(...barred),
      refuse: (modelKey, errorOf) => this.#waiting.rejectOf(modelKey, errorOf),
    });
    const queueOf = (modelKey: string) => this.#queues.find(modelKey);
    this.#candidates = new Candidates(this.#replicas, clock);
    const rules = rulesOf(options, this.#cores);
    this.#placement = new Placement(rules, this.#replicas, this.#candidates, queueOf, this.loads, clock, {
      copy: (copy) => this.#copy(copy),
      give: (...given) => this.#sender.give(...given),
      loadWide: (replica, model) => replica.load(model, { pin: false, spare: [] }),
      accepted: () => this.#accepted.size,
      areAllOf: (modelKey) => this.#accepted.areAllOf(modelKey),
      refused: (queue, error) =>
        this.#waiting.take(queue, (pending) => this.#failures.fail(pending, cloneError(error))),
      expressNeeded: (isNeeded) => observer.expressNeeded(isNeeded),
    });
    this.handled = new HandledWork(this.#queues, this.#placement);
    this.#router = options.router ?? DEFAULT_ROUTER;
    this.#useRouter();
    this.#accepted = new AcceptedRequests(clock, {
      busy: () => observer.busy(),
      idle: () => observer.idle(),
      rejected: ({ model, isShadow }, error) => this.#failed(model, error, isShadow),
      left: (pending) => {
        if (!this.sought.remove(pending) && !this.#retrying.remove(pending)) this.#waiting.leave(pending);
      },
      givenUp: () => this.#unwanted.look(),
    });
    this.#limit = new QueueLimit(options.maxQueuedRequests, clock, {
      placeNow: () => this.#placement.placeNow(),
      reject: (pending, error) => this.#accepted.reject(pending, () => error),
    });
    this.#waiting = new WaitingRequests(this.#queues, this.#accepted, this.#limit, this.#placement);
    this.#unwanted = new UnwantedRuns(this.given, () => (this.#replicas.free.length > 0 ? 0 : this.#limit.queued));
    const waits = {
      ...{ accepted: this.#accepted, limit: this.#limit, outage: () => this.#admission.outage },
      enqueue: (pending: PendingRequest) => this.#enqueue(pending),
    };
    this.#failures = new FailedRequests(this.#accepted, this.loads, this.bars, {
      ...waits,
      loadRetries: this.#loadRetries,
      tryLater: (...failed) => this.#retrying.add(...failed),
      isWarm: (modelKey) => this.#replicas.warm(modelKey).length > 0,
      insteadOf: (model) => observer.insteadOf(model),
    });
    this.#retrying = new RetryingRequests({ ...waits, clock, insteadOf: (model) => observer.insteadOf(model) });
    this.sought = new SoughtRequests({
      ...waits,
      sought: (model) => observer.sought(model),
      unsought: (model) => observer.unsought(model),
    });
    this.#answers = new AnsweredDispatches(this.#accepted, this.#failures, this.bars, clock, observer, (...work) =>
      this.#placement.worked(...work),
    );
    this.#sender = new DispatchSender(
      {
        ...{ placement: this.#placement, accepted: this.#accepted, limit: this.#limit, given: this.given },
        ...{ answers: this.#answers, failures: this.#failures },
      },
      clock,
      observer,
      {
        nextSequence: () => this.#sequence++,
        answered: (requests) => {
          this.#sentWithoutPause = -requests;
        },
        over: (queue) => this.#forgetTransient(queue),
      },
    );
  }

  /** Requests that wait for a replica. */
  get queued(): number {
    return this.#limit.queued;
  }

  /**
   * Accepts a request and answers it, once.
   *
   * @param read makes the value of the promise from the result. The result object is then reused for the next request.
   * @throws InfermuxError by rejection: `QUEUE_FULL`, `CANCELLED`, `DEADLINE_EXCEEDED`, `REPLICA_FAILED`,
   *   `ENGINE_CLOSED`, `MODEL_LOAD_FAILED`, or the error that the replica answered with.
   */
  submit<T>(request: RoutedRequest, read: (result: RoutedResult) => T): Promise<T> {
    this.#observer.submitted();
    // A request that may wait for another try is accepted all the same.
    const refusal =
      this.#admission.refusalOf(request) ??
      (this.#loadRetries > 0 ? undefined : this.loads.refusal(request.model.key)) ??
      this.bars.refusalOf(request);
    if (refusal !== undefined) {
      request.releaseFeeds?.();
      this.#failed(request.model, refusal, request.isShadow);
      return Promise.reject(cloneError(refusal));
    }
    const promise = newPromise<T>();
    const pending = new PendingRequest(request, this.#sequence++, this.#clock.now(), read);
    if (this.#accepted.add(pending)) {
      this.bars.accepted(pending);
      this.#enqueue(pending);
      if (!this.#limit.refuseOverflow(pending) && this.#accepted.has(pending)) {
        // Not earlier: a caller whose request is refused keeps its arrays.
        request.takeOver?.();
        this.#observer.accepted(request);
      }
      this.#sentWithoutPause += 1;
      if (this.#sentWithoutPause >= this.#lookAfterRequests) {
        this.#sentWithoutPause = 0;
        this.#placement.look();
      }
    }
    return promise;
  }

  /** Applies new options from now on. They also apply to waiting requests, except for the limit of the queue. */
  configure(options: Omit<DispatcherOptions, 'lookAfterRequests' | 'cores' | 'loadRetries'>): void {
    const { maxQueuedRequests, batching, router = DEFAULT_ROUTER } = options;
    this.#limit.configure(maxQueuedRequests);
    this.#queues.configure(batching);
    if (router !== this.#router) {
      this.#router = router;
      this.#useRouter();
    }
    this.#placement.configure(rulesOf(options, this.#cores));
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

  /** Whether a request for the model waits, or was given to a replica a shorter while ago. */
  isInUse(modelKey: string, whileMs = IN_USE_MS): boolean {
    const queue = this.#queues.find(modelKey);
    if (queue === undefined) return false;
    return queue.head !== undefined || this.#clock.now() - queue.lastGivenAt < whileMs;
  }

  addReplica(replica: R): void {
    if (!replica.isExpress) this.#admission.outage = undefined;
    if (replica.handles !== undefined) this.#queues.setHandled(replica.handles);
    this.#unwanted.added(replica);
    this.#placement.addReplica(replica);
  }

  /**
   * Removes the replica at once. Its ongoing requests come back when the promises of their dispatches reject.
   *
   * @param crash why the replica died or was given up, if it did. The model that it was loading then is not loaded again
   *   for a while, since the load might do the same to the next replica.
   */
  removeReplica(replica: R, crash?: InfermuxError): void {
    this.given.removed(replica, crash);
    this.#unwanted.removed(replica);
    const keys = new Set([...replica.models.keys()].map(narrowKeyOf));
    const own = [...keys].flatMap((key) => this.#queues.find(key) ?? []);
    const queues = this.#placement.removeReplica(replica, own, crash);
    this.#leaveLoad(replica, crash);
    for (const modelKey of replica.models.keys()) this.loads.loadEnded(modelKey);
    // A replica that stopped, and is given up now, was removed before.
    this.#placement.place(queues ?? own);
  }

  /** The replica is removed, perhaps in the middle of a load. It may stay in that load for long, or for good. */
  #leaveLoad(replica: R, crash: InfermuxError | undefined): void {
    const { loadUnderWay: model, gone, isFailed } = replica;
    if (model === undefined) return;
    const error = crash ?? (isFailed ? new InfermuxError('REPLICA_FAILED', 'it did not stop in time') : undefined);
    this.loads.replicaLeft(model, this.given.isLoadToBlame(replica, error) ? error : undefined, gone);
    void gone.then(() => {
      this.loads.loadEnded(model.key);
      const queue = this.#queues.find(model.key);
      if (queue !== undefined) this.#placement.place([queue]);
    });
  }

  /** Call it after the model appeared in or disappeared from the replica, or was loaded. */
  modelChanged(replica: R, modelKey: string): void {
    const queue = this.#queues.find(narrowKeyOf(modelKey));
    if (queue !== undefined && replica.models.get(modelKey) === 'loaded') queue.hasLoaded = true;
    this.#placement.modelChanged(replica, modelKey, queue);
    if (replica.models.get(modelKey) !== 'loading') this.loads.loadEnded(modelKey);
    if (queue !== undefined) this.#forgetTransient(queue);
    this.#unwanted.look();
  }

  /** Returns the replica's statistics as routers see them; undefined when it takes no requests. */
  routingStats(replica: R): RoutingStats | undefined {
    return this.#candidates.of(replica)?.routingStats;
  }

  /** A load of the model succeeded in `milliseconds` and reported the model's inputs and outputs. */
  modelLoaded(replica: R, model: RoutedModel, milliseconds: number, metadata: ModelMetadata): void {
    this.#candidates.of(replica)?.loaded(milliseconds);
    this.loads.forget(model.key);
    const { times, batching } = this.#queues.of(model);
    times.addLoad(milliseconds);
    batching.setMetadata(metadata);
  }

  /** The models that were asked for, with the requests that wait for them and those that failed since. */
  modelsAsked(): Iterable<{ readonly model: RoutedModel; readonly queued: number; readonly failed: number }> {
    return this.#queues.counts();
  }

  /** A request for the model was refused before it came here. */
  countFailed(modelKey: string): void {
    const queue = this.#queues.find(modelKey);
    if (queue !== undefined) queue.failed += 1;
  }

  #failed(model: RoutedModel, error: InfermuxError, isShadow: boolean): void {
    if (!isShadow) this.countFailed(model.key);
    this.#observer.failed(model, error, isShadow);
  }

  /** Resolves when no accepted request is for the model. Call it when no more will come. */
  untilModelUnused(modelKey: string): Promise<void> {
    return this.#retrying.leave(modelKey, this.#accepted.untilNoneOf(modelKey));
  }

  /** Forgets a handler's own model that no replica has and nobody waits for: callers may name any number of them. */
  #forgetTransient({ model: { key } }: ModelQueue): void {
    if (isHandlerKey(key) && key !== NO_MODEL && this.#replicas.warm(key).length === 0) this.forgetModel(key);
  }

  /** Forgets a model that nobody will ask for again; does nothing while requests for it wait. */
  forgetModel(modelKey: string): void {
    const queue = this.#queues.find(modelKey);
    if (queue === undefined || queue.head !== undefined) return;
    this.#placement.forget(queue);
    this.#queues.delete(modelKey);
    this.loads.forget(modelKey);
    this.bars.forget(modelKey);
  }

  /** No replica runs and none could be started: refuses waiting and new requests until a replica is added. */
  declareOutage(error: InfermuxError): void {
    this.#admission.outage = error;
    this.#waiting.rejectAll(error);
    this.sought.failAll(error);
  }

  /** A replica may start again: requests are accepted, although none runs yet. */
  endOutage(): void {
    this.#admission.outage = undefined;
  }

  /** Why no replica runs, if none can be started. */
  get outage(): InfermuxError | undefined {
    return this.#admission.outage;
  }

  /** Whether every accepted request has its answer. */
  get isIdle(): boolean {
    return this.#accepted.isEmpty;
  }

  /** Refuses new requests and rejects shadow requests. Other accepted requests go on, and wait for no batch. */
  close(refusal: InfermuxError): void {
    this.#admission.close(refusal);
    for (const each of this.#accepted.all()) if (each.isShadow) this.#accepted.reject(each, () => cloneError(refusal));
    this.#retrying.close();
    this.#placement.stopGathering();
  }

  /** Resolves when every accepted request has its answer. */
  untilIdle(): Promise<void> {
    return this.#accepted.untilNone();
  }

  /** Refuses new requests and rejects all accepted ones. */
  destroy(error: InfermuxError): void {
    this.#admission.destroy(error);
    this.#waiting.rejectAll(error);
    for (const pending of this.#accepted.all()) this.#accepted.reject(pending, () => cloneError(error));
  }

  #enqueue(pending: PendingRequest): void {
    if (this.sought.add(pending)) return;
    const queue = this.#queues.of(pending.model);
    queue.add(pending);
    this.#limit.entered(pending);
    this.#placement.arrived(queue, pending);
    this.#limit.shedShadows();
    this.#unwanted.look();
  }

  /** Loads a copy of the model. A failure is only recorded: the model is still served by the replicas that have it. */
  #copy({ queue: { model }, candidate: { replica }, spare }: ModelCopy<R>): void {
    // The dispatcher is closing, and its last requests need no further copy.
    if (this.#admission.isClosed) return;
    replica.load(model, { pin: false, spare }).then(undefined, (cause: unknown) => {
      const error = toInfermuxError(cause);
      if (error.code === 'MODEL_LOAD_FAILED') this.loads.recordFailure(model, error);
    });
  }
}
