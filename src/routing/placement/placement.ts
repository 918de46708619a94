import type { Clock } from '../../common/clock.js';
import type { Order, RoutingStats } from '../../contracts/request-router.js';
import type { DispatchScope, PendingDispatch } from '../batches/take-dispatch.js';
import type { PendingRequest } from '../pending-request.js';
import { Gathering } from '../queues/gathering.js';
import type { ModelQueue } from '../queues/model-queue.js';
import { QueueEligibility, type QueueEligibilityObserver } from '../queues/queue-eligibility.js';
import { WaitingModels } from '../queues/waiting-models.js';
import { ActiveRouter } from '../routers/active-router.js';
import type { ModelRouter } from '../routers/by-model/model-router.js';
import type { CreatedRouter } from '../routers/create-router.js';
import type { RouterFaultObserver } from '../routers/guarded-router.js';
import { EventLoopTurn } from './event-loop-turn.js';
import type { LoadBackoff } from './load-backoff.js';
import { ModelCopies, type ModelCopy, type QueueOf } from './model-copies.js';
import { createOrder } from './orders/create-order.js';
import type { PlacementContext, PlacementOrder } from './orders/placement-order.js';
import { Candidate, type RoutableReplica } from './replicas/candidate.js';
import type { ReplicaIndex } from './replicas/replica-index.js';
import { ReplicaSlots } from './replicas/replica-slots.js';
import { TurnArrivals } from './turn-arrivals.js';

/** Carries out what a placement decides. */
export interface PlacementActions<R extends RoutableReplica> extends Pick<QueueEligibilityObserver, 'refused'> {
  /** Loads a copy of a model in an idle replica. */
  copy(copy: ModelCopy<R>): void;
  /** Gives the replica the next requests of the queue, from one to `most`, and calls {@link Placement.given}. */
  give(queue: ModelQueue, candidate: Candidate<R>, most: number, scope: DispatchScope | undefined): void;
}

/** How a placement decides. */
export interface PlacementRules {
  /** Most ongoing requests of a replica. Infinite: no limit but two dispatches. */
  readonly maxOngoing: number;
  /** Whether models take turns, or requests go strictly in order of arrival, whatever their model. */
  readonly order: Order;
}

const anywhere = () => true;

/**
 * Decides which replica is given which requests next. The router says where a request may go, the slots say whether
 * there is room, and the order says whose turn it is.
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
  readonly #arrivals: TurnArrivals;
  readonly #gathering: Gathering;
  readonly #router: ActiveRouter<R>;
  readonly #copies: ModelCopies<R>;
  readonly #loadBackoff: LoadBackoff;
  #rules: PlacementRules;
  #order: PlacementOrder<R>;

  /** @param replicas the placement adds replicas to this index, and deletes them. */
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
    this.#arrivals = new TurnArrivals(clock, this.#turn, {
      place: (queues) => this.place(queues),
      placeBehind: (queue, request) => {
        this.#order.placeBehind?.(queue, request);
        this.#eligibility.update(queue);
      },
    });
    this.#gathering = new Gathering(clock);
    this.#router = new ActiveRouter(replicas, loadBackoff, clock);
    this.#copies = new ModelCopies(replicas, queueOf, clock);
    this.#loadBackoff = loadBackoff;
    this.#eligibility = new QueueEligibility(this.#waiting, replicas, loadBackoff, clock, {
      due: (queue) => this.place([queue]),
      goesByRequest: () => !this.#order.spills,
      spillOf: (queue) => this.#router.spillOf(queue),
      refused: (queue, error) => actions.refused(queue, error),
    });
    this.#slots = new ReplicaSlots(replicas, this.#waiting, clock, {
      freed: (candidate) => this.serve(candidate),
      mayLoad: (modelKey) => loadBackoff.mayLoad(modelKey),
    });
    this.#order = this.#orderFor(rules.order);
  }

  /** Takes new rules and places every waiting request again, because batching may have changed as well. */
  configure(rules: PlacementRules): void {
    const { order } = this.#rules;
    this.#rules = rules;
    if (rules.order !== order) this.#order = this.#orderFor(rules.order);
    for (const candidate of this.#replicas.all()) this.#slots.configure(candidate, rules.maxOngoing);
    this.place(this.waiting());
  }

  /** Puts the router in force, as {@link ActiveRouter.use} does. Place every waiting request after that. */
  use(router: CreatedRouter, fallback: ModelRouter, faulted: RouterFaultObserver): void {
    this.#router.use(router, fallback, faulted);
    this.#order = this.#orderFor(this.#rules.order);
  }

  #orderFor(order: Order): PlacementOrder<R> {
    const context: PlacementContext<R> = {
      ...{ replicas: this.#replicas, slots: this.#slots, waiting: this.#waiting },
      choose: (queue, request, may = anywhere) =>
        this.#router.choose(queue, request, (candidate) => this.#slots.has(candidate, queue) && may(candidate)),
      spillsTo: (queue, candidate) => this.#router.spillsTo(queue, candidate),
      give: (queue, candidate, scope) => this.#give(queue, candidate, scope),
      updateEligibility: (queue) => this.#eligibility.update(queue),
      place: (queue) => this.place([queue]),
      nextTurn: (callback) => {
        this.#clock.nextTurn(() => {
          // Another order may be in force by then.
          if (this.#order === created) callback();
        });
      },
    };
    const created = createOrder(order, this.#router.goesByModel, context);
    this.#waiting.orderBy(created.isBefore);
    return created;
  }

  addReplica(replica: R): void {
    const candidate = new Candidate(replica, this.#clock);
    this.#candidates.set(replica, candidate);
    this.#replicas.add(candidate);
    this.#slots.configure(candidate, this.#rules.maxOngoing);
    this.#router.replicasChanged();
    // There is one more cold replica: models that wait for warm ones may spill to it, now or later.
    for (const queue of this.#waiting.all()) this.#eligibility.update(queue);
    this.serve(candidate);
  }

  /**
   * Removes the replica.
   *
   * @param queuesOfModels queues of the models that the replica has.
   * @param failure why the replica died, if it did.
   * @returns the queues to place after that, among them `queuesOfModels`; undefined when the replica is unknown.
   */
  removeReplica(
    replica: R,
    queuesOfModels: readonly ModelQueue[],
    failure: Error | undefined,
  ): readonly ModelQueue[] | undefined {
    const candidate = this.#candidates.get(replica);
    if (candidate === undefined) return undefined;
    this.#candidates.delete(replica);
    this.#replicas.delete(candidate);
    candidate.cancelTimer?.();
    // What was waited while it loaded a model counts as little as if it had loaded it.
    for (const queue of queuesOfModels) if (candidate.loads.has(queue.modelKey)) queue.loadEnded(this.#clock.now());
    if (failure !== undefined) this.#router.replicaFailed(candidate, failure);
    this.#router.replicasChanged();
    return this.#order.looksAtAll ? [...new Set([...queuesOfModels, ...this.#waiting.all()])] : queuesOfModels;
  }

  /** Call it after the model appeared in the replica, was loaded, or disappeared; with its queue, if there is one. */
  modelChanged(replica: R, modelKey: string, queue: ModelQueue | undefined): void {
    const candidate = this.#candidates.get(replica);
    // A replica that leaves: its load may be what the queue waits for.
    if (candidate === undefined) {
      if (queue !== undefined) this.place([queue]);
      return;
    }
    candidate.modelChanged(modelKey, queue);
    this.#replicas.modelChanged(candidate, modelKey);
    this.#slots.loadChanged(candidate);
    if (queue !== undefined) this.place([queue]);
    // When no load is under way, the replica can take other work.
    if (!replica.isLoading) this.serve(candidate);
  }

  /** The replica has loaded a model, in this many milliseconds. */
  modelLoaded(replica: R, milliseconds: number): void {
    this.#candidates.get(replica)?.loaded(milliseconds);
  }

  /** The statistics of the replica that routers see; undefined when the replica is unknown. */
  statsOf(replica: R): RoutingStats | undefined {
    return this.#candidates.get(replica)?.routingStats;
  }

  /** Queues with waiting requests, whether they wait for a replica or for company. */
  waiting(): ModelQueue[] {
    this.placeNow();
    return this.#waiting.all();
  }

  /** Call it after the request was added to the queue. */
  arrived(queue: ModelQueue, request: PendingRequest): void {
    this.#arrivals.add(queue, request, this.#order);
  }

  /** Call it after a request left the queue because it is over. */
  left(queue: ModelQueue): void {
    this.#waiting.turnChanged(queue);
    this.#arrivals.left(queue);
  }

  /** Places the requests that have arrived in the present turn, without waiting for its end. */
  placeNow(): void {
    this.#arrivals.placeNow();
  }

  /** Gives the requests of these queues to replicas, as long as the router finds one with a free slot. */
  place(queues: readonly ModelQueue[]): void {
    for (const queue of queues) this.#gathering.update(queue, this.#rules.maxOngoing);
    this.#order.place(queues.filter(({ isGathering, size }) => !isGathering && size > 0));
    for (const queue of queues) this.#eligibility.update(queue);
  }

  /** Gives the replica work, as long as it has a free slot and a waiting request may go to it. */
  serve(candidate: Candidate<R>): void {
    if (!this.#replicas.has(candidate)) return;
    this.#order.serve(candidate);
    if (candidate.isIdle) this.#copy();
  }

  #copy(): void {
    const copy = this.#copies.take(({ modelKey }) => this.#loadBackoff.mayLoad(modelKey));
    if (copy !== undefined) this.#actions.copy(copy);
  }

  /** Serves replicas that have a free slot by the shared counters, which are ahead of the answers. */
  look(): void {
    this.placeNow();
    for (const candidate of this.#replicas.all()) this.#slots.lookAt(candidate);
    for (const candidate of [...this.#replicas.free]) this.serve(candidate);
  }

  /** Call it before the replica is told. @param sequence higher than all that requests have, and no later one's. */
  given(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch, sequence: number): void {
    queue.servedAt = sequence;
    candidate.usedAt.set(queue.modelKey, this.#clock.now());
    this.#slots.given(candidate, queue, sequence, dispatch.expectedMs ?? Number.POSITIVE_INFINITY);
  }

  /** Call it after the replica is told: a router may do anything in its hook, even send requests. */
  routed(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch): void {
    this.#router.routed(candidate, queue, dispatch);
  }

  /** Call it when a dispatch of the queue's requests has its answer, whatever it is, or its replica died. */
  answered(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch, sequence: number): void {
    this.#turn.begin();
    queue.servedAt = sequence;
    this.#waiting.turnChanged(queue);
    this.#router.completed(candidate, dispatch);
    if (!this.#replicas.has(candidate)) return;
    this.#slots.answered(candidate);
    if (this.#turn.isOver) this.#clock.nextTurn(() => this.serve(candidate));
    else this.serve(candidate);
  }

  /** The replica took `runMs` for all these requests of the queue together. */
  worked(candidate: Candidate<R>, queue: ModelQueue, requests: number, runMs: number): void {
    candidate.answered(requests, runMs / requests);
    this.#copies.worked(candidate, queue, runMs);
    this.#copy();
  }

  /** Keys of the replica's models that may be evicted before others: see {@link ModelCopies.spareOn}. */
  spareOn(candidate: Candidate<R>): string[] {
    return this.#copies.spareOn(candidate);
  }

  /** The queue will not be used again. */
  forget(queue: ModelQueue): void {
    this.#arrivals.forget(queue);
    this.#waiting.forget(queue);
    this.#copies.forget(queue);
  }

  /** From now on no request waits for company. */
  stopGathering(): void {
    this.#gathering.stop();
    this.place(this.waiting());
  }

  #give(queue: ModelQueue, candidate: Candidate<R>, scope?: DispatchScope): void {
    this.#actions.give(queue, candidate, this.#slots.share(candidate, queue), scope);
    // The remaining requests may have to wait for company again.
    this.#gathering.update(queue, this.#rules.maxOngoing);
  }
}
