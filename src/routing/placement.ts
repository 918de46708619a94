import { isDeepStrictEqual } from 'node:util';
import type { Clock } from '../clock.js';
import type { Order, PendingRequestView, RoutingStats } from '../request-router.js';
import { commonRows } from '../tensor.js';
import type { BarredLoads } from './barred-loads.js';
import { Candidate, type RoutableReplica } from './candidate.js';
import { Copies, type Copy } from './copies.js';
import { DenseSet } from './dense-set.js';
import { firstWithSlot } from './first-with-slot.js';
import { GuardedRouter, type RouterFaultObserver } from './guarded-router.js';
import { isArrivedBefore, isQueueBefore, type ModelQueue } from './model-queue.js';
import type { ModelRouter } from './model-router.js';
import type { PendingRequest } from './pending-request.js';
import { QueueParking, type QueueParkingObserver } from './queue-parking.js';
import { type ReplicaIndex, warmAmong } from './replica-index.js';
import { ReplicaSlots } from './replica-slots.js';
import type { CreatedRouter } from './routers/create-router.js';
import { type DispatchScope, fullBatchRows, type PendingDispatch } from './take-dispatch.js';
import { Turn } from './turn.js';
import { WaitingModels } from './waiting-models.js';

/** What is done with what a placement decides. */
export interface PlacementActions<R extends RoutableReplica> extends Pick<QueueParkingObserver, 'refused'> {
  /** Loads a copy of a model in a replica that is idle. */
  copy(copy: Copy<R>): void;
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

/** So many requests that find no replica are asked for when something frees; those behind them are asked for later. */
const MOST_MISSES = 64;

/**
 * Decides which replica is given which model's requests next: for a queue the replica that the router accepts and that has
 * a free slot, for a replica whose slot is free the queue whose turn it is.
 *
 * Where the router goes by models, a slot goes to the first of the models that the replica has, or that no replica has. A
 * model that waits for other, busy replicas gets a load of its own here only when the router finds that it has waited long
 * enough and the replica has nothing else to do: so spilling takes idle capacity and cannot make two loaded replicas evict each
 * other's models. Only when it has waited very long is it served in its turn anywhere.
 *
 * A router that goes by requests is asked for each of those that wait, in their order, whenever something frees.
 */
export class Placement<R extends RoutableReplica> {
  readonly #replicas: ReplicaIndex<Candidate<R>>;
  readonly #candidates = new Map<R, Candidate<R>>();
  readonly #clock: Clock;
  readonly #actions: PlacementActions<R>;
  readonly #waiting = new WaitingModels();
  readonly #parking: QueueParking;
  readonly #slots: ReplicaSlots<R>;
  readonly #turn: Turn;
  readonly #copies: Copies<R>;
  readonly #barredLoads: BarredLoads;
  #rules: PlacementRules;
  #router: ModelRouter = NO_ROUTER;
  /** Set where the router goes by requests; otherwise `#router` decides. */
  #requestRouter: GuardedRouter<R> | undefined;
  /** Queues that are to be placed when the present turn is over. */
  readonly #deferred = new DenseSet<ModelQueue>();
  /** Those whose requests a router is told of. */
  readonly #followed = new WeakMap<PendingDispatch, Followed<R>>();
  #isGatheringAllowed = true;

  /** @param replicas filled and emptied here. */
  constructor(
    rules: PlacementRules,
    replicas: ReplicaIndex<Candidate<R>>,
    barredLoads: BarredLoads,
    clock: Clock,
    actions: PlacementActions<R>,
  ) {
    this.#rules = rules;
    this.#replicas = replicas;
    this.#clock = clock;
    this.#actions = actions;
    this.#turn = new Turn(clock);
    this.#copies = new Copies(replicas, clock);
    this.#barredLoads = barredLoads;
    this.#parking = new QueueParking(this.#waiting, replicas, barredLoads, clock, {
      due: (queue) => this.place(queue),
      msUntilSpill: (queue) => this.#msUntilSpill(queue),
      refused: (queue, error) => actions.refused(queue, error),
    });
    this.#slots = new ReplicaSlots(replicas, this.#waiting, clock, {
      freed: (candidate) => this.serve(candidate),
      mayLoad: (modelKey) => barredLoads.mayLoadInMs(modelKey) === 0,
    });
  }

  /** Batching may have changed as well: whatever waits is placed again. */
  configure(rules: PlacementRules): void {
    this.#rules = rules;
    for (const candidate of this.#replicas.all()) this.#slots.configure(candidate, rules.maxOngoing);
    for (const queue of this.waiting()) this.place(queue);
  }

  /** From now on; what it is to be told of requests that another one routed is not told. Whatever waits is to be placed again. */
  use({ scope, router }: CreatedRouter, fallback: ModelRouter, faulted: RouterFaultObserver): void {
    this.#router = scope === 'model' ? router : fallback;
    this.#requestRouter = scope === 'model' ? undefined : new GuardedRouter(router, fallback, faulted);
    this.#requestRouter?.changed(this.#replicas.all());
  }

  addReplica(replica: R): void {
    const candidate = new Candidate(replica, this.#clock);
    this.#candidates.set(replica, candidate);
    this.#replicas.add(candidate);
    this.#slots.configure(candidate, this.#rules.maxOngoing);
    this.#requestRouter?.changed(this.#replicas.all());
    // One more cold replica: models that wait for warm ones may spill to it now or when their time comes.
    for (const queue of this.#waiting.all()) this.#parking.park(queue);
    this.serve(candidate);
  }

  /**
   * The queues of its models are to be placed after that.
   *
   * @param failure why it died, if it did.
   * @returns false when it is not here.
   */
  removeReplica(replica: R, failure: Error | undefined): boolean {
    const candidate = this.#candidates.get(replica);
    if (candidate === undefined) return false;
    this.#candidates.delete(replica);
    this.#replicas.delete(candidate);
    candidate.cancelTimer?.();
    if (failure !== undefined) this.#requestRouter?.failed(candidate, failure);
    this.#requestRouter?.changed(this.#replicas.all());
    return true;
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
   * To be called when requests were added to the queue. They often come many at a time, above all when a batch was
   * answered: all of them are here before any is placed.
   */
  placeSoon(queue: ModelQueue): void {
    const isFirst = this.#deferred.items.length === 0;
    this.#deferred.add(queue);
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
    const queues = [...this.#deferred.items];
    for (const queue of queues) this.#deferred.remove(queue);
    // Copies of requests go behind all others, also behind those that came after them in this turn.
    for (const queue of queues) if (queue.head?.isShadow !== true) this.place(queue);
    for (const queue of queues) if (queue.head?.isShadow === true) this.place(queue);
  }

  /** Gives the queue's requests to replicas as long as the router finds one with a free slot. */
  place(queue: ModelQueue): void {
    queue.gathersUntil = this.#gatherUntil(queue);
    if (this.#rules.order === 'fifo') {
      this.#parking.park(queue);
      this.#placeFirsts();
      return;
    }
    if (!queue.isGathering) {
      if (this.#requestRouter !== undefined) this.#placeEach(queue, MOST_MISSES);
      else this.#placeHeads(queue);
    }
    this.#parking.park(queue);
  }

  /** Gives the replica work as long as it has a free slot and something waits that it may take. */
  serve(candidate: Candidate<R>): void {
    if (!this.#replicas.has(candidate)) return;
    if (this.#rules.order === 'fifo') this.#placeFirsts();
    else if (this.#requestRouter !== undefined) this.#placeAll();
    else this.#serveModels(candidate);
    if (candidate.isIdle) this.#copy();
  }

  #copy(): void {
    const copy = this.#copies.take((queue) => this.#mayLoad(queue));
    if (copy !== undefined) this.#actions.copy(copy);
  }

  #mayLoad({ modelKey }: ModelQueue): boolean {
    return this.#barredLoads.mayLoadInMs(modelKey) === 0;
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

  /** The replica took so long for requests of the queue. */
  worked(candidate: Candidate<R>, queue: ModelQueue, requests: number, runMs: number): void {
    candidate.answered(requests, runMs);
    this.#copies.worked(candidate, queue, runMs);
    this.#copy();
  }

  /** Models of the replica that may leave before others: see {@link Copies.spareOn}. */
  spareOn(candidate: Candidate<R>, queueOf: (modelKey: string) => ModelQueue | undefined): string[] {
    return this.#copies.spareOn(candidate, queueOf);
  }

  /** The queue will not be used again. */
  forget(queue: ModelQueue): void {
    this.#deferred.delete(queue);
    this.#waiting.forget(queue);
  }

  /** Nobody waits for company any more. */
  stopGathering(): void {
    this.#isGatheringAllowed = false;
    for (const queue of this.waiting()) this.place(queue);
  }

  #placeHeads(queue: ModelQueue): void {
    const choose = () => (queue.head === undefined ? undefined : this.#choose(queue, queue.head));
    for (let candidate = choose(); candidate !== undefined; candidate = choose()) {
      const first = this.#whoseTurn(candidate, queue);
      this.#give(first, candidate);
      if (first !== queue) this.#parking.park(first);
    }
  }

  #serveModels(candidate: Candidate<R>): void {
    const spilling = new Set<ModelQueue>();
    for (let queue = this.#nextFor(candidate); queue !== undefined; queue = this.#nextFor(candidate)) {
      this.#give(queue, candidate);
      if (this.#parking.park(queue) === 'spilling') spilling.add(queue);
    }
    // The next request may have waited long enough for another replica, where the one before it had not.
    for (const queue of spilling) this.place(queue);
  }

  /** Places whatever waits, in turns of the models. */
  #placeAll(): void {
    let misses = MOST_MISSES;
    const asked = new Set<ModelQueue>();
    for (let queue = this.#nextTurn(asked); queue !== undefined && misses > 0; queue = this.#nextTurn(asked)) {
      asked.add(queue);
      misses = this.#placeEach(queue, misses);
      this.#parking.park(queue);
    }
  }

  /** The first of the queues whose requests a replica could take, but for these. */
  #nextTurn(asked: ReadonlySet<ModelQueue>): ModelQueue | undefined {
    return this.#waiting.first(isQueueBefore, (queue) => !asked.has(queue) && this.#canBeTaken(queue));
  }

  #canBeTaken(queue: ModelQueue): boolean {
    return this.#replicas.free.some((candidate) => this.#slots.has(candidate, queue));
  }

  /**
   * Asks for each of the queue's requests where it may go: those behind one that has to wait may go elsewhere.
   *
   * @param misses so many may have to wait; then those behind them wait as well.
   * @returns how many are left of these.
   */
  #placeEach(queue: ModelQueue, misses: number): number {
    let left = misses;
    for (let request = queue.head; request !== undefined && left > 0 && this.#canBeTaken(queue); ) {
      const from = request;
      const next = queue.after(from);
      const candidate = this.#choose(queue, from);
      if (candidate === undefined) left -= 1;
      else this.#give(queue, candidate, { from, mayJoin: (other) => areRoutedAlike(from, other) });
      // It may have gone along.
      request = next?.isWaiting === false ? queue.head : next;
    }
    return left;
  }

  /** Places what came first, and stops at the first request that has to wait. */
  #placeFirsts(): void {
    const nextBut = (but?: ModelQueue) => this.#waiting.first(isQueueOlder, (queue) => queue !== but);
    for (let queue = nextBut(); queue !== undefined; queue = nextBut()) {
      const { head } = queue;
      const candidate = head && this.#choose(queue, head);
      if (head === undefined || candidate === undefined) return;
      const other = nextBut(queue)?.head;
      const mayJoin = (request: PendingRequest) =>
        (other === undefined || isArrivedBefore(request, other)) && areRoutedAlike(head, request);
      this.#give(queue, candidate, { from: head, mayJoin });
      this.#parking.park(queue);
    }
  }

  #choose(queue: ModelQueue, request: PendingRequest): Candidate<R> | undefined {
    const view = this.#viewOf(queue, request);
    const hasSlot = (candidate: Candidate<R>) => this.#slots.has(candidate, queue);
    if (this.#requestRouter !== undefined) {
      return this.#requestRouter.choose(this.#replicas, view, this.#mayLoad(queue), hasSlot);
    }
    const ranks = this.#router.chooseReplicas(this.#replicas, view);
    return firstWithSlot(ranks as readonly Iterable<Candidate<R>>[], hasSlot);
  }

  #viewOf(
    queue: ModelQueue,
    { priority, shardKey, labels = NO_LABELS, acceptedAt }: PendingRequest,
  ): PendingRequestView {
    const { model, times, size } = queue;
    const now = this.#clock.now();
    return {
      model: model.id,
      modelKey: model.key,
      priority,
      shardKey,
      labels,
      waitedMs: this.#requestRouter === undefined ? queue.waitedMs(now) : now - acceptedAt,
      queued: size,
      expectedRunMs: times.runMs,
      expectedLoadMs: times.loadMs,
    };
  }

  #msUntilSpill(queue: ModelQueue): number {
    const { head } = queue;
    // Whoever is asked for each request is asked whenever something frees.
    if (head === undefined || this.#requestRouter !== undefined || this.#rules.order === 'fifo')
      return Number.POSITIVE_INFINITY;
    return this.#router.msUntilSpill(this.#replicas.warm(queue.modelKey), this.#viewOf(queue, head));
  }

  #nextFor(candidate: Candidate<R>): ModelQueue | undefined {
    const visited = this.#slots.visited(candidate);
    if (visited !== undefined) return visited;
    const { isIdle } = candidate;
    let next = isIdle ? this.#waiting.firstAnywhere : undefined;
    for (const queue of this.#waiting.among(candidate.models)) {
      if (next !== undefined && !this.#isTurnBefore(candidate, queue, next)) continue;
      if (this.#slots.has(candidate, queue)) next = queue;
    }
    return next ?? (isIdle ? this.#waiting.firstSpilling : undefined);
  }

  /**
   * The shared counters show a slot before the answer that freed it has arrived here; another model may have waited for it
   * longer, and would wait for ever if each new arrival went first.
   */
  #whoseTurn(candidate: Candidate<R>, queue: ModelQueue): ModelQueue {
    const other = this.#nextFor(candidate);
    const isOthers =
      other !== undefined && this.#isTurnBefore(candidate, other, queue) && this.#slots.has(candidate, other);
    return isOthers ? other : queue;
  }

  /** A model that the replica runs already is as good as served just now. */
  #isTurnBefore(candidate: Candidate<R>, queue: ModelQueue, other: ModelQueue): boolean {
    const isEqual = queue.head?.priority === other.head?.priority;
    if (isEqual && this.#slots.isServing(candidate, other)) return true;
    if (isEqual && this.#slots.isServing(candidate, queue)) return false;
    return isQueueBefore(queue, other);
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

/** Whether a router that goes by requests may be asked for both at once. */
function areRoutedAlike(left: PendingRequest, right: PendingRequest): boolean {
  return left.shardKey === right.shardKey && isDeepStrictEqual(left.labels, right.labels);
}

function isQueueOlder({ head: left }: ModelQueue, { head: right }: ModelQueue): boolean {
  return left !== undefined && (right === undefined || isArrivedBefore(left, right));
}
