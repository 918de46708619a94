import type { Clock } from '../../common/clock.js';
import type { PendingRequestView } from '../../contracts/request-router.js';
import { expectedDrainMs, type PendingDispatch } from '../batches/take-dispatch.js';
import type { PendingRequest } from '../pending-request.js';
import { firstWithSlot } from '../placement/first-with-slot.js';
import type { LoadBackoff } from '../placement/load-backoff.js';
import type { Candidate, RoutableReplica } from '../placement/replicas/candidate.js';
import type { ReplicaIndex } from '../placement/replicas/replica-index.js';
import type { ModelQueue } from '../queues/model-queue.js';
import type { ModelRouter, Spill } from './by-model/model-router.js';
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
const NO_LABELS = Object.freeze({});

/** Asks the router in force, by model or by request, and tells a router by request what becomes of its requests. */
export class ActiveRouter<R extends RoutableReplica> {
  readonly #replicas: ReplicaIndex<Candidate<R>>;
  readonly #loadBackoff: LoadBackoff;
  readonly #clock: Clock;
  #modelRouter: ModelRouter = NO_ROUTER;
  /** Set when the router goes by requests; otherwise `#modelRouter` decides. */
  #requestRouter: GuardedRouter<R> | undefined;
  readonly #followed = new WeakMap<PendingDispatch, Followed<R>>();

  constructor(replicas: ReplicaIndex<Candidate<R>>, loadBackoff: LoadBackoff, clock: Clock) {
    this.#replicas = replicas;
    this.#loadBackoff = loadBackoff;
    this.#clock = clock;
  }

  /** Puts the router in force. It is not told of requests that another router has routed. */
  use({ scope, router }: CreatedRouter, fallback: ModelRouter, faulted: RouterFaultObserver): void {
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
    const view = this.#viewOf(queue, request);
    if (this.#requestRouter !== undefined) {
      // While no replica has a slot, the router is not asked: it may rank none, and that is no fault then.
      if (!this.#replicas.free.some(hasSlot)) return undefined;
      const mayLoad = this.#loadBackoff.mayLoad(queue.modelKey);
      const chosen = this.#requestRouter.choose(this.#replicas, view, mayLoad, hasSlot);
      // The router may have cancelled the request meanwhile, or sent other requests, and this one went along with them.
      return request.isWaiting ? chosen : undefined;
    }
    const ranks = this.#modelRouter.chooseReplicas(this.#replicas, view);
    return firstWithSlot(ranks as readonly Iterable<Candidate<R>>[], hasSlot);
  }

  /** As {@link ModelRouter.spillOf}; never when no request waits. */
  spillOf(queue: ModelQueue): Spill {
    const { head } = queue;
    return head === undefined ? NEVER : this.#modelRouter.spillOf(this.#replicas, this.#viewOf(queue, head));
  }

  /** As {@link ModelRouter.spillsTo}; false when no request waits. */
  spillsTo(queue: ModelQueue, candidate: Candidate<R>): boolean {
    const { head } = queue;
    return head !== undefined && this.#modelRouter.spillsTo(this.#replicas, this.#viewOf(queue, head), candidate);
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
  completed(candidate: Candidate<R>, dispatch: PendingDispatch): void {
    const followed = this.#followed.get(dispatch);
    if (followed === undefined) return;
    for (const request of followed.requests) followed.router.completed(candidate, request);
  }

  #viewOf(
    queue: ModelQueue,
    { sequence, priority, shardKey, labels = NO_LABELS, acceptedAt }: PendingRequest,
  ): PendingRequestView {
    const { model, times, size } = queue;
    const now = this.#clock.now();
    const warm = this.#replicas.warm(model.key).length;
    // Frozen, because a router is foreign code, and the next hook gets the same view.
    return Object.freeze({
      id: sequence,
      model: model.id,
      modelKey: model.key,
      priority,
      shardKey,
      labels,
      waitedMs: this.#requestRouter === undefined ? queue.waitedMs(now) : now - acceptedAt,
      queued: size,
      totalWaitedMs: this.#replicas.isLoading(model.key) ? 0 : queue.totalWaitedMs(now),
      expectedDrainMs: expectedDrainMs(queue) / Math.max(1, warm),
      modelBytes: model.bytes,
      expectedRunMs: times.runMs,
      expectedLoadMs: times.loadMs,
    });
  }
}
