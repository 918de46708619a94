import type { Clock } from '../../common/clock.js';
import type { InfermuxError } from '../../common/errors.js';
import { isSameData } from '../../common/values/realm.js';
import type { PendingRequestView } from '../../contracts/request-router.js';
import { outcomesOf } from '../batches/outcomes.js';
import type { RoutedAnswer } from '../batches/routed-dispatch.js';
import { expectedDrainMs, type PendingDispatch } from '../batches/take-dispatch.js';
import { inputBytesOf, type PendingRequest, rowsOf } from '../pending-request.js';
import { firstWithSlot } from '../placement/first-with-slot.js';
import type { LoadBackoff } from '../placement/load-backoff.js';
import type { Candidate, RoutableReplica } from '../placement/replicas/candidate.js';
import type { ReplicaIndex } from '../placement/replicas/replica-index.js';
import type { ModelQueue } from '../queues/model-queue.js';
import type { ModelDemand, ModelRouter, Spill } from './by-model/model-router.js';
import { maySpill } from './by-model/spill.js';
import type { CreatedRouter } from './create-router.js';
import { GuardedRouter, type RouterFaultObserver } from './guarded-router.js';

/** Requests that were given to a replica, and the router that hears when they are completed. */
interface Followed<R extends RoutableReplica> {
  readonly router: GuardedRouter<R>;
  readonly requests: readonly PendingRequestView[];
}

const NEVER: Spill = { atOnce: false, inMs: Number.POSITIVE_INFINITY };
/** In force until the first call of {@link ActiveRouter.use}. */
const NO_ROUTER: ModelRouter = {
  chooseReplicas: () => [],
  spillOf: () => NEVER,
  spillsTo: () => false,
};
const NOTHING = Object.freeze({});

/** Asks the router in force, by model or by request, and tells a router by request what becomes of its requests. */
export class ActiveRouter<R extends RoutableReplica> {
  readonly #replicas: ReplicaIndex<Candidate<R>>;
  readonly #loadBackoff: LoadBackoff;
  readonly #clock: Clock;
  #modelRouter: ModelRouter = NO_ROUTER;
  /** Set when the router goes by requests; otherwise `#modelRouter` decides. */
  #requestRouter: GuardedRouter<R> | undefined;
  /** Whether it is a user's. */
  #isOwn = false;
  readonly #followed = new WeakMap<PendingDispatch, Followed<R>>();

  constructor(replicas: ReplicaIndex<Candidate<R>>, loadBackoff: LoadBackoff, clock: Clock) {
    this.#replicas = replicas;
    this.#loadBackoff = loadBackoff;
    this.#clock = clock;
  }

  /** Puts the router in force. It is not told of requests that another router has routed. */
  use({ scope, router, isOwn }: CreatedRouter, fallback: ModelRouter, faulted: RouterFaultObserver): void {
    this.#isOwn = isOwn;
    this.#modelRouter = scope === 'model' ? router : fallback;
    this.#requestRouter = scope === 'model' ? undefined : new GuardedRouter(router, fallback, faulted);
    this.replicasChanged();
  }

  get goesByModel(): boolean {
    return this.#requestRouter === undefined;
  }

  /** Call it when other replicas run than before. */
  replicasChanged(): void {
    this.#requestRouter?.changed(this.#replicas.all());
  }

  /** Call it when the replica has left the index because it died. */
  replicaFailed(candidate: Candidate<R>, failure: Error): void {
    this.#requestRouter?.failed(candidate, failure);
  }

  /**
   * Returns the replica that the router chooses for the request; undefined when the request has to wait.
   *
   * @param hasSlot whether the replica can take the request now.
   */
  choose(
    queue: ModelQueue,
    request: PendingRequest,
    hasSlot: (candidate: Candidate<R>) => boolean,
  ): Candidate<R> | undefined {
    if (this.#requestRouter !== undefined) {
      // While no replica has a slot, the router is not asked: it may rank none, and that is no fault then.
      if (!this.#replicas.free.some(hasSlot)) return undefined;
      const view = this.#viewOf(queue, request);
      const isOffered = this.#offersOf(this.#requestRouter, view);
      if (!this.#replicas.free.some((candidate) => hasSlot(candidate) && isOffered(candidate))) return undefined;
      const chosen = this.#requestRouter.choose(this.#replicas, view, isOffered, hasSlot);
      // The router may have cancelled the request meanwhile, or sent other requests, and this one went along with them.
      return request.isWaiting ? chosen : undefined;
    }
    const ranks = this.#modelRouter.chooseReplicas(this.#replicas, this.#demandOf(queue));
    return firstWithSlot(ranks as readonly Iterable<Candidate<R>>[], hasSlot);
  }

  /**
   * Which replicas a router by request is offered: those that have the model; the others while it may be loaded and none
   * has it, or where a load is worth it, unless the router decides that itself.
   */
  #offersOf(router: GuardedRouter<R>, request: PendingRequestView): (candidate: Candidate<R>) => boolean {
    const { modelKey } = request;
    const isWarm = ({ models }: Candidate<R>) => models.has(modelKey);
    if (!this.#loadBackoff.mayLoad(modelKey)) return isWarm;
    const warm = this.#replicas.warm(modelKey).length;
    if (router.decidesSpill || warm === 0 || warm === this.#replicas.size) return () => true;
    if (!maySpill(this.#modelRouter.spillOf(this.#replicas, request))) return isWarm;
    return (candidate) => isWarm(candidate) || this.#modelRouter.spillsTo(this.#replicas, request, candidate);
  }

  /**
   * Whether the router need be asked only once for both requests of a model. A router by model is asked for the model;
   * the built-in ones by request look at neither size nor hints.
   */
  areRoutedAlike(left: PendingRequest, right: PendingRequest): boolean {
    if (this.#requestRouter === undefined) return true;
    if (left.shardKey !== right.shardKey || !isSameData(left.labels, right.labels)) return false;
    if (!this.#isOwn) return true;
    if (rowsOf(left) !== rowsOf(right) || inputBytesOf(left) !== inputBytesOf(right)) return false;
    return isSameData(left.hints, right.hints);
  }

  /** As {@link ModelRouter.spillOf}; never when no request waits. */
  spillOf(queue: ModelQueue): Spill {
    return queue.head === undefined ? NEVER : this.#modelRouter.spillOf(this.#replicas, this.#demandOf(queue));
  }

  /** As {@link ModelRouter.spillsTo}; false when no request waits. */
  spillsTo(queue: ModelQueue, candidate: Candidate<R>): boolean {
    return queue.head !== undefined && this.#modelRouter.spillsTo(this.#replicas, this.#demandOf(queue), candidate);
  }

  /** Call it after the replica is told: a router may do anything in its hook, even send requests. */
  routed(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch): void {
    const router = this.#requestRouter;
    if (router?.followsRequests !== true) return;
    const requests = dispatch.groups.flatMap(({ requests: own }) => own.map((request) => this.#viewOf(queue, request)));
    this.#followed.set(dispatch, { router, requests });
    for (const request of requests) router.routed(candidate, request);
  }

  /** Call it when the dispatch has its answer, or its replica died. */
  completed(candidate: Candidate<R>, dispatch: PendingDispatch, ended: RoutedAnswer | InfermuxError): void {
    const followed = this.#followed.get(dispatch);
    if (followed === undefined) return;
    for (const [index, outcome] of outcomesOf(dispatch, ended).entries())
      followed.router.completed(candidate, followed.requests[index] as PendingRequestView, outcome);
  }

  #demandOf(queue: ModelQueue): ModelDemand {
    const { model, times, size } = queue;
    const now = this.#clock.now();
    const warm = this.#replicas.warm(model.key).length;
    return {
      model: model.id,
      modelKey: model.key,
      waitedMs: queue.waitedMs(now),
      queued: size,
      totalWaitedMs: this.#replicas.isLoading(model.key) ? 0 : queue.totalWaitedMs(now),
      expectedDrainMs: expectedDrainMs(queue) / Math.max(1, warm),
      modelBytes: model.bytes,
      expectedRunMs: times.runMs,
      expectedLoadMs: times.loadMs,
    };
  }

  #viewOf(queue: ModelQueue, request: PendingRequest): PendingRequestView {
    const { sequence, priority, shardKey, labels = NOTHING, hints = NOTHING, acceptedAt } = request;
    // Frozen, because a router is foreign code, and the next hook gets the same view.
    return Object.freeze({
      ...this.#demandOf(queue),
      ...{ id: sequence, priority, shardKey, labels, hints },
      // The built-in routers do not look at the bytes, which take a walk through a handler's request.
      ...{ inputBytes: this.#isOwn ? inputBytesOf(request) : 0, rows: rowsOf(request) },
      waitedMs: this.#clock.now() - acceptedAt,
    });
  }
}
