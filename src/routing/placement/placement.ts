import type { Clock } from '../../common/clock.js';
import { DenseSet } from '../../common/dense-set.js';
import type { Order, PendingRequestView, RoutingStats } from '../../contracts/request-router.js';
import { commonRows } from '../../tensors/tensor.js';
import { type DispatchScope, fullBatchRows, type PendingDispatch } from '../batches/take-dispatch.js';
import type { PendingRequest } from '../pending-request.js';
import type { ModelQueue } from '../queues/model-queue.js';
import { QueueEligibility, type QueueEligibilityObserver } from '../queues/queue-eligibility.js';
import { WaitingModels } from '../queues/waiting-models.js';
import type { ModelRouter } from '../routers/by-model/model-router.js';
import type { CreatedRouter } from '../routers/create-router.js';
import { GuardedRouter, type RouterFaultObserver } from '../routers/guarded-router.js';
import { EventLoopTurn } from './event-loop-turn.js';
import { firstWithSlot } from './first-with-slot.js';
import type { LoadBackoff } from './load-backoff.js';
import { ModelCopies, type ModelCopy, type QueueOf } from './model-copies.js';
import { FifoOrder } from './orders/fifo-order.js';
import { PerModelOrder } from './orders/per-model-order.js';
import { PerRequestOrder } from './orders/per-request-order.js';
import type { PlacementContext, PlacementOrder } from './orders/placement-order.js';
import { Candidate, type RoutableReplica } from './replicas/candidate.js';
import { type ReplicaIndex, warmAmong } from './replicas/replica-index.js';
import { ReplicaSlots } from './replicas/replica-slots.js';

/** What is done with what a placement decides. */
export interface PlacementActions<R extends RoutableReplica> extends Pick<QueueEligibilityObserver, 'refused'> {
  /** Loads a copy of a model in a replica that is idle. */
  copy(copy: ModelCopy<R>): void;
  /** Gives the replica the next requests of the queue, at least one and at most so many, and tells {@link Placement.given}. */
  give(queue: ModelQueue, candidate: Candidate<R>, most: number, scope: DispatchScope | undefined): void;
}

/** How a placement decides. */
export interface PlacementRules {
  /** Infinite for no limit but two dispatches. */
  readonly maxOngoing: number;
  /** Whether models take turns, or requests go strictly in their order of arrival, whatever their model. */
  readonly order: Order;
}

/** Requests that were given to a replica, and the router that is told what becomes of them. */
interface Followed<R extends RoutableReplica> {
  readonly router: GuardedRouter<R>;
  readonly requests: readonly PendingRequestView[];
}

/** As long as none is in use. */
const NO_ROUTER: ModelRouter = { chooseReplicas: () => [], msUntilSpill: () => Number.POSITIVE_INFINITY };
const NO_LABELS = Object.freeze({});

/**
 * Decides which replica is given which requests next: the router says where a request may go, the slots say whether there is
 * room, and the order says whose turn it is.
 */
export class Placement<R extends RoutableReplica> {
  readonly #replicas: ReplicaIndex<Candidate<R>>;
  readonly #candidates = new Map<R, Candidate<R>>();
  readonly #clock: Clock;
  readonly #actions: PlacementActions<R>;
  readonly #waiting = new WaitingModels();
  readonly #eligibility: QueueEligibility;
  readonly #slots: ReplicaSlots<R>;
  readonly #turn: EventLoopTurn;
  readonly #copies: ModelCopies<R>;
  readonly #loadBackoff: LoadBackoff;
  #rules: PlacementRules;
  #router: ModelRouter = NO_ROUTER;
  #order: PlacementOrder<R>;
  /** Set where the router goes by requests; otherwise `#router` decides. */
  #requestRouter: GuardedRouter<R> | undefined;
  /** Queues that are to be placed when the present turn is over. */
  readonly #deferred = new DenseSet<ModelQueue>();
  /** Requests that came behind others of their queue, and are to be placed then too. */
  readonly #behind: { readonly queue: ModelQueue; readonly request: PendingRequest }[] = [];
  /** Those whose requests a router is told of. */
  readonly #followed = new WeakMap<PendingDispatch, Followed<R>>();
  #isGatheringAllowed = true;

  /** @param replicas filled and emptied here. */
  constructor(
    rules: PlacementRules,
    replicas: ReplicaIndex<Candidate<R>>,
    queueOf: QueueOf,
    loadBackoff: LoadBackoff,
    clock: Clock,
    actions: PlacementActions<R>,
  ) {
    this.#rules = rules;
    this.#replicas = replicas;
    this.#clock = clock;
    this.#actions = actions;
    this.#turn = new EventLoopTurn(clock);
    this.#copies = new ModelCopies(replicas, queueOf, clock);
    this.#loadBackoff = loadBackoff;
    this.#eligibility = new QueueEligibility(this.#waiting, replicas, loadBackoff, clock, {
      due: (queue) => this.place(queue),
      msUntilSpill: (queue) => this.#msUntilSpill(queue),
      refused: (queue, error) => actions.refused(queue, error),
    });
    this.#slots = new ReplicaSlots(replicas, this.#waiting, clock, {
      freed: (candidate) => this.serve(candidate),
      mayLoad: (modelKey) => loadBackoff.mayLoadInMs(modelKey) === 0,
    });
    this.#order = this.#orderFor(rules.order);
  }

  /** Batching may have changed as well: whatever waits is placed again. */
  configure(rules: PlacementRules): void {
    const { order } = this.#rules;
    this.#rules = rules;
    if (rules.order !== order) this.#order = this.#orderFor(rules.order);
    for (const candidate of this.#replicas.all()) this.#slots.configure(candidate, rules.maxOngoing);
    for (const queue of this.waiting()) this.place(queue);
  }

  /** From now on; what it is to be told of requests that another one routed is not told. Whatever waits is to be placed again. */
  use({ scope, router }: CreatedRouter, fallback: ModelRouter, faulted: RouterFaultObserver): void {
    this.#router = scope === 'model' ? router : fallback;
    this.#requestRouter = scope === 'model' ? undefined : new GuardedRouter(router, fallback, faulted);
    this.#requestRouter?.changed(this.#replicas.all());
    this.#order = this.#orderFor(this.#rules.order);
  }

  #orderFor(order: Order): PlacementOrder<R> {
    const context: PlacementContext<R> = {
      ...{ replicas: this.#replicas, slots: this.#slots, waiting: this.#waiting },
      choose: (queue, request, may) => this.#choose(queue, request, may),
      give: (queue, candidate, scope) => this.#give(queue, candidate, scope),
      updateEligibility: (queue) => this.#eligibility.update(queue),
      place: (queue) => this.place(queue),
      nextTurn: (callback) => {
        this.#clock.nextTurn(() => {
          // Another order may have taken its place.
          if (this.#order === created) callback();
        });
      },
    };
    const created = this.#createOrder(order, context);
    return created;
  }

  #createOrder(order: Order, context: PlacementContext<R>): PlacementOrder<R> {
    if (order === 'fifo') return new FifoOrder(context, this.#requestRouter === undefined);
    return this.#requestRouter === undefined ? new PerModelOrder(context) : new PerRequestOrder(context);
  }

  addReplica(replica: R): void {
    const candidate = new Candidate(replica, this.#clock);
    this.#candidates.set(replica, candidate);
    this.#replicas.add(candidate);
    this.#slots.configure(candidate, this.#rules.maxOngoing);
    this.#requestRouter?.changed(this.#replicas.all());
    // One more cold replica: models that wait for warm ones may spill to it now or when their time comes.
    for (const queue of this.#waiting.all()) this.#eligibility.update(queue);
    this.serve(candidate);
  }

  /**
   * @param failure why it died, if it did.
   * @returns the queues that are to be placed after that, among them those of its models; undefined when it is not here.
   */
  removeReplica(
    replica: R,
    queuesOfModels: readonly ModelQueue[],
    failure: Error | undefined,
  ): Iterable<ModelQueue> | undefined {
    const candidate = this.#candidates.get(replica);
    if (candidate === undefined) return undefined;
    this.#candidates.delete(replica);
    this.#replicas.delete(candidate);
    candidate.cancelTimer?.();
    if (failure !== undefined) this.#requestRouter?.failed(candidate, failure);
    this.#requestRouter?.changed(this.#replicas.all());
    return this.#order.looksAtAll ? new Set([...queuesOfModels, ...this.#waiting.all()]) : queuesOfModels;
  }

  /** To be called after the model of this queue, if it has one, appeared in or disappeared from the replica, or was loaded. */
  modelChanged(replica: R, modelKey: string, queue: ModelQueue | undefined): void {
    const candidate = this.#candidates.get(replica);
    if (candidate === undefined) return;
    const now = this.#clock.now();
    if (candidate.loads.delete(modelKey)) candidate.begunAt = now;
    if (replica.models.has(modelKey)) candidate.usedAt.set(modelKey, now);
    else candidate.usedAt.delete(modelKey);
    if (replica.models.get(modelKey) === 'loading') candidate.loads.set(modelKey, now + (queue?.times.loadMs ?? 0));
    this.#replicas.modelChanged(candidate, modelKey);
    this.#slots.loadChanged(candidate);
    if (queue !== undefined) this.place(queue);
    // A load that ended lets the replica take other work.
    if (!replica.isLoading) this.serve(candidate);
  }

  /** A load of a model took so long in the replica. */
  modelLoaded(replica: R, milliseconds: number): void {
    this.#candidates.get(replica)?.loaded(milliseconds);
  }

  /** What routers see of how the replica fares; undefined when it is not here. */
  statsOf(replica: R): RoutingStats | undefined {
    return this.#candidates.get(replica)?.routingStats;
  }

  /** Queues with requests that wait, for a replica or for company. */
  waiting(): ModelQueue[] {
    this.placeNow();
    return this.#waiting.all();
  }

  /**
   * To be called when a request was added to the queue. They often come many at a time, above all when a batch was
   * answered: all of them are here before any is placed.
   */
  arrived(queue: ModelQueue, request: PendingRequest): void {
    const isFirst = this.#deferred.items.length + this.#behind.length === 0;
    if (queue.head === request || queue.isGathering) this.#deferred.add(queue);
    // Behind another request there is nothing to try, where that found no free slot either.
    else if (this.#order.placeBehind !== undefined) this.#behind.push({ queue, request });
    // It may be worth a load by how many wait: looked at whenever they have doubled.
    else if (this.#order.spills && (queue.size & (queue.size - 1)) === 0) this.#deferred.add(queue);
    else return;
    if (!isFirst) return;
    if (this.#turn.isOver) {
      this.#clock.nextTurn(() => this.placeNow());
      return;
    }
    const since = this.#clock.now();
    this.#clock.defer(() => {
      this.#turn.callersTook(this.#clock.now() - since);
      this.placeNow();
    });
  }

  /** What is to be placed when the present turn is over is placed at once. */
  placeNow(): void {
    // All of both at once: what a router sends while it is asked is the first of the next turn.
    const behind = this.#behind.splice(0);
    const queues = [...this.#deferred.items];
    for (const queue of queues) this.#deferred.remove(queue);
    // Copies of requests go behind all others, also behind those that came after them in this turn.
    this.#placeAll(queues.filter(({ head }) => head?.isShadow !== true));
    this.#placeAll(queues.filter(({ head }) => head?.isShadow === true));
    for (const { queue, request } of behind) {
      if (!request.isWaiting || queue.isGathering) continue;
      this.#order.placeBehind?.(queue, request);
      this.#eligibility.update(queue);
    }
  }

  #placeAll(queues: readonly ModelQueue[]): void {
    for (const queue of queues) queue.gathersUntil = this.#gatherUntil(queue);
    this.#order.place(queues.filter(({ isGathering }) => !isGathering));
    for (const queue of queues) this.#eligibility.update(queue);
  }

  /** Gives the queue's requests to replicas as long as the router finds one with a free slot. */
  place(queue: ModelQueue): void {
    queue.gathersUntil = this.#gatherUntil(queue);
    if (!queue.isGathering) this.#order.place([queue]);
    this.#eligibility.update(queue);
  }

  /** Gives the replica work as long as it has a free slot and something waits that it may take. */
  serve(candidate: Candidate<R>): void {
    if (!this.#replicas.has(candidate)) return;
    this.#order.serve(candidate);
    if (candidate.isIdle) this.#copy();
  }

  #copy(): void {
    const copy = this.#copies.take((queue) => this.#mayLoad(queue));
    if (copy !== undefined) this.#actions.copy(copy);
  }

  #mayLoad({ modelKey }: ModelQueue): boolean {
    return this.#loadBackoff.mayLoadInMs(modelKey) === 0;
  }

  /** The shared counters show which replicas are done, before their answers can be handled. */
  look(): void {
    this.placeNow();
    for (const candidate of this.#replicas.all()) this.#slots.lookAt(candidate);
    for (const candidate of [...this.#replicas.free]) this.serve(candidate);
  }

  /**
   * To be called before the replica is told.
   *
   * @param nextSequence sequence number of the next request to arrive.
   */
  given(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch, nextSequence: number): void {
    queue.servedAt = nextSequence;
    candidate.usedAt.set(queue.modelKey, this.#clock.now());
    this.#slots.given(candidate, queue, nextSequence, dispatch.expectedMs ?? Number.POSITIVE_INFINITY);
  }

  /** To be called when the replica was told: a router may do anything when it hears of it, even send requests. */
  routed(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch): void {
    const router = this.#requestRouter;
    if (router?.followsRequests !== true) return;
    const requests = dispatch.groups.flatMap(({ requests: own }) => own.map((request) => this.#viewOf(queue, request)));
    this.#followed.set(dispatch, { router, requests });
    for (const request of requests) router.routed(candidate, request);
  }

  /** To be called when a dispatch of the queue's requests has its answer, whatever it is, or its replica died. */
  answered(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch, nextSequence: number): void {
    this.#turn.begin();
    queue.servedAt = nextSequence;
    this.#waiting.turnChanged(queue);
    const followed = this.#followed.get(dispatch);
    for (const request of followed?.requests ?? []) followed?.router.completed(candidate, request);
    if (!this.#replicas.has(candidate)) return;
    this.#slots.answered(candidate);
    if (this.#turn.isOver) this.#clock.nextTurn(() => this.serve(candidate));
    else this.serve(candidate);
  }

  /** The replica took so long for so many requests of the queue together. */
  worked(candidate: Candidate<R>, queue: ModelQueue, requests: number, runMs: number): void {
    candidate.answered(requests, runMs / requests);
    this.#copies.worked(candidate, queue, runMs);
    this.#copy();
  }

  /** Models of the replica that may leave before others: see {@link ModelCopies.spareOn}. */
  spareOn(candidate: Candidate<R>): string[] {
    return this.#copies.spareOn(candidate);
  }

  /** The queue will not be used again. */
  forget(queue: ModelQueue): void {
    this.#deferred.delete(queue);
    this.#waiting.forget(queue);
    this.#copies.forget(queue);
  }

  /** Nobody waits for company any more. */
  stopGathering(): void {
    this.#isGatheringAllowed = false;
    for (const queue of this.waiting()) this.place(queue);
  }

  #choose(
    queue: ModelQueue,
    request: PendingRequest,
    may: (candidate: Candidate<R>) => boolean = () => true,
  ): Candidate<R> | undefined {
    const hasSlot = (candidate: Candidate<R>) => this.#slots.has(candidate, queue) && may(candidate);
    const view = this.#viewOf(queue, request);
    if (this.#requestRouter !== undefined) {
      // A router that is asked for nothing may well rank none.
      if (!this.#replicas.free.some(hasSlot)) return undefined;
      const chosen = this.#requestRouter.choose(this.#replicas, view, this.#mayLoad(queue), hasSlot);
      // Whatever the router did meanwhile: it may have cancelled the request, or sent others along with which it went.
      return request.isWaiting ? chosen : undefined;
    }
    const ranks = this.#router.chooseReplicas(this.#replicas, view);
    return firstWithSlot(ranks as readonly Iterable<Candidate<R>>[], hasSlot);
  }

  #viewOf(
    queue: ModelQueue,
    { sequence, priority, shardKey, labels = NO_LABELS, acceptedAt }: PendingRequest,
  ): PendingRequestView {
    const { model, times, size } = queue;
    const now = this.#clock.now();
    // Routers are anybody's, and what they are shown is shown to the next as well.
    return Object.freeze({
      id: sequence,
      model: model.id,
      modelKey: model.key,
      priority,
      shardKey,
      labels,
      waitedMs: this.#requestRouter === undefined ? queue.waitedMs(now) : now - acceptedAt,
      queued: size,
      expectedRunMs: times.runMs,
      expectedLoadMs: times.loadMs,
    });
  }

  #msUntilSpill(queue: ModelQueue): number {
    const { head } = queue;
    if (head === undefined || !this.#order.spills) return Number.POSITIVE_INFINITY;
    return this.#router.msUntilSpill(this.#replicas.warm(queue.modelKey), this.#viewOf(queue, head));
  }

  #give(queue: ModelQueue, candidate: Candidate<R>, scope?: DispatchScope): void {
    const most = Math.min(this.#fairShare(queue, candidate), this.#slots.room(candidate));
    this.#actions.give(queue, candidate, most, scope);
    // What is left may have to wait for company again.
    queue.gathersUntil = this.#gatherUntil(queue);
  }

  /** What waits is shared among the warm replicas that are as free as this one; what gathered goes together. */
  #fairShare(queue: ModelQueue, candidate: Candidate<R>): number {
    const { size, modelKey, batching } = queue;
    if (size <= 1 || batching.maxWaitMs > 0) return size;
    const { isIdle } = candidate;
    const candidates = isIdle ? this.#replicas.idle : this.#replicas.free;
    let free = 0;
    for (const other of warmAmong(this.#replicas.warm(modelKey), candidates, modelKey)) {
      if (isIdle ? other.isIdle : this.#slots.has(other, queue)) free += 1;
      if (free === size) break;
    }
    return Math.ceil(size / Math.max(1, free));
  }

  /** Time of the clock until which the queue's requests wait for company, if they do. */
  #gatherUntil(queue: ModelQueue): number | undefined {
    const { head, batching } = queue;
    if (batching.maxWaitMs === 0 || !this.#isGatheringAllowed) return undefined;
    // One that runs alone has no company to wait for.
    if (head === undefined || commonRows(head.feeds) === 0) return undefined;
    if (queue.rows >= Math.min(fullBatchRows(queue), this.#rules.maxOngoing)) return undefined;
    const until = queue.patientUntil(batching.maxWaitMs);
    return until > this.#clock.now() ? until : undefined;
  }
}
