import type { Clock } from '../../common/clock.js';
import type { DispatchScope, PendingDispatch } from '../batches/take-dispatch.js';
import type { PendingRequest } from '../pending-request.js';
import { Gathering } from '../queues/gathering.js';
import type { ModelQueue } from '../queues/model-queue.js';
import { QueueEligibility } from '../queues/queue-eligibility.js';
import { WaitingModels } from '../queues/waiting-models.js';
import { ActiveRouter } from '../routers/active-router.js';
import type { ModelRouter } from '../routers/by-model/model-router.js';
import type { CreatedRouter } from '../routers/create-router.js';
import type { RouterFaultObserver } from '../routers/guarded-router.js';
import { EventLoopTurn } from './event-loop-turn.js';
import { ExpressLane } from './express/express-lane.js';
import type { LoadBackoff } from './load-backoff.js';
import { ModelCopies, type QueueOf } from './model-copies.js';
import { ActiveOrder } from './orders/active-order.js';
import type { PlacementContext } from './orders/placement-order.js';
import type { PlacementActions, PlacementRules } from './placement-rules.js';
import type { Candidate, RoutableReplica } from './replicas/candidate.js';
import type { Candidates } from './replicas/candidates.js';
import type { ReplicaIndex } from './replicas/replica-index.js';
import { ReplicaSlots } from './replicas/replica-slots.js';
import { TurnArrivals } from './turn-arrivals.js';
import { type LoneRun, WideSessions } from './wide/wide-sessions.js';

/**
 * Decides which replica is given which requests next. The router says where a request may go, the slots say whether
 * there is room, and the order says whose turn it is.
 */
export class Placement<R extends RoutableReplica> {
  readonly #replicas: ReplicaIndex<Candidate<R>>;
  readonly #candidates: Candidates<R>;
  readonly #clock: Clock;
  readonly #actions: PlacementActions<R>;
  readonly #waiting = new WaitingModels();
  readonly #eligibility: QueueEligibility;
  readonly #slots: ReplicaSlots<R>;
  readonly #turn: EventLoopTurn;
  readonly #arrivals: TurnArrivals;
  readonly #gathering: Gathering;
  /** To be told of dispatches that are given and completed, after that and before {@link answered}. */
  readonly router: ActiveRouter<R>;
  readonly #copies: ModelCopies<R>;
  readonly #wide: WideSessions<R>;
  readonly #express: ExpressLane<R>;
  #rules: PlacementRules;
  readonly #order: ActiveOrder<R>;

  /** @param replicas the index to which the candidates are added. */
  constructor(
    rules: PlacementRules,
    replicas: ReplicaIndex<Candidate<R>>,
    candidates: Candidates<R>,
    queueOf: QueueOf,
    loadBackoff: LoadBackoff,
    clock: Clock,
    actions: PlacementActions<R>,
  ) {
    this.#rules = rules;
    this.#replicas = replicas;
    this.#candidates = candidates;
    this.#clock = clock;
    this.#actions = actions;
    this.#turn = new EventLoopTurn(clock);
    this.#arrivals = new TurnArrivals(clock, this.#turn, {
      place: (queues) => this.place(queues),
      placeBehind: (queue, request) => {
        this.#order.inForce.placeBehind?.(queue, request);
        this.#eligibility.update(queue);
      },
    });
    this.#gathering = new Gathering(clock, (queue) => this.#wide.waitUntil(queue));
    this.router = new ActiveRouter(replicas, loadBackoff, clock);
    this.#copies = new ModelCopies(replicas, queueOf, loadBackoff, clock, actions);
    const takesTurns = () => this.#order.inForce.takesTurns;
    this.#wide = new WideSessions(rules, replicas, loadBackoff, clock, actions, takesTurns);
    this.#eligibility = new QueueEligibility(this.#waiting, replicas, loadBackoff, clock, {
      due: (queue) => this.place([queue]),
      goesByRequest: () => !this.#order.inForce.spills,
      spillOf: (queue) => this.router.spillOf(queue),
      refused: (queue, error) => actions.refused(queue, error),
    });
    this.#slots = new ReplicaSlots(replicas, this.#waiting, clock, {
      freed: (candidate) => this.serve(candidate),
      mayLoad: (modelKey) => loadBackoff.mayLoad(modelKey),
      mayFollow: (candidate, queue) => this.#express.mayFollow(candidate, queue),
    });
    this.#express = new ExpressLane(this.#waiting, this.#candidates, queueOf, loadBackoff, clock, {
      ...{ copy: (copy) => actions.copy(copy), expressNeeded: (isNeeded) => actions.expressNeeded(isNeeded) },
      takesTurns,
      give: (queue, candidate, most) => this.#giveNext(queue, candidate, most),
    });
    const context: Omit<PlacementContext<R>, 'nextTurn'> = {
      ...{ replicas, slots: this.#slots, waiting: this.#waiting },
      choose: (queue, request, may) =>
        this.#wide.candidateFor(queue) ??
        this.router.choose(
          queue,
          request,
          (candidate) => this.#slots.has(candidate, queue) && may?.(candidate) !== false,
        ),
      spillsTo: (queue, candidate) => this.router.spillsTo(queue, candidate),
      areRoutedAlike: (left, right) => this.router.areRoutedAlike(left, right),
      give: (queue, candidate, scope) => this.#give(queue, candidate, scope),
      updateEligibility: (queue) => this.#eligibility.update(queue),
      place: (queue) => this.place([queue]),
    };
    this.#order = new ActiveOrder(rules.order, this.router.goesByModel, context, clock);
  }

  /** Takes new rules and places every waiting request again, because batching may have changed as well. */
  configure(rules: PlacementRules): void {
    if (rules.order !== this.#rules.order) this.#order.use(rules.order, this.router.goesByModel);
    this.#rules = rules;
    this.#wide.configure(rules);
    for (const candidate of this.#candidates.all()) this.#slots.configure(candidate, rules.maxOngoing);
    this.place(this.waiting());
  }

  /** Puts the router in force, as {@link ActiveRouter.use} does. Place every waiting request after that. */
  use(router: CreatedRouter, fallback: ModelRouter, faulted: RouterFaultObserver): void {
    this.router.use(router, fallback, faulted);
    this.#order.use(this.#rules.order, this.router.goesByModel);
  }

  addReplica(replica: R): void {
    const candidate = this.#candidates.add(replica);
    this.#slots.configure(candidate, this.#rules.maxOngoing);
    this.router.replicasChanged();
    // There is one more cold replica: models that wait for warm ones may spill to it, now or later.
    for (const queue of this.#waiting.all()) this.#eligibility.update(queue);
    this.serve(candidate);
  }

  /**
   * @param queuesOfModels queues of the models that the replica has. @param failure why the replica died, if it did.
   * @returns the queues to place after that, among them `queuesOfModels`; undefined when the replica is unknown.
   */
  removeReplica(
    replica: R,
    queuesOfModels: readonly ModelQueue[],
    failure: Error | undefined,
  ): readonly ModelQueue[] | undefined {
    const candidate = this.#candidates.delete(replica);
    if (candidate === undefined) return undefined;
    this.#wide.replicaRemoved(candidate);
    // What was waited while it loaded a model counts as little as if it had loaded it.
    for (const queue of queuesOfModels) if (candidate.loads.has(queue.modelKey)) queue.loadEnded(this.#clock.now());
    if (failure !== undefined) this.router.replicaFailed(candidate, failure);
    this.router.replicasChanged();
    return this.#order.inForce.looksAtAll ? [...new Set([...queuesOfModels, ...this.#waiting.all()])] : queuesOfModels;
  }

  /** Call it after the model appeared in the replica, was loaded, or disappeared; with its queue, if there is one. */
  modelChanged(replica: R, modelKey: string, queue: ModelQueue | undefined): void {
    const candidate = this.#candidates.of(replica);
    if (candidate !== undefined) {
      candidate.modelChanged(modelKey, queue);
      this.#replicas.modelChanged(candidate, modelKey);
      if (queue !== undefined && modelKey !== queue.modelKey) this.#wide.modelChanged(candidate, modelKey, queue);
      this.#slots.changed(candidate);
    }
    // The load of a replica that leaves may be what the queue waits for.
    if (queue !== undefined) this.place([queue]);
    // When no load is under way, the replica can take other work.
    if (candidate !== undefined && !replica.isLoading) this.serve(candidate);
  }

  /** The replica waits for more or fewer requests that its handler has made. */
  awaitingChanged(replica: R): void {
    const candidate = this.#candidates.of(replica);
    if (candidate !== undefined) this.#slots.changed(candidate);
    // Only such requests may go where there was no room before.
    this.place(this.#waiting.nested());
  }

  /** A lone request of a handler ran the queue's model in the session with this key. */
  handlerRan(replica: R, queue: ModelQueue, run: LoneRun): void {
    if (this.#candidates.of(replica) !== undefined) this.#wide.ran(replica, queue, run);
  }

  /** Queues with waiting requests, whether they wait for a replica or for company. */
  waiting(): ModelQueue[] {
    this.placeNow();
    return this.#waiting.all();
  }

  /** Call it after the request was added to the queue. */
  arrived(queue: ModelQueue, request: PendingRequest): void {
    this.#arrivals.add(queue, request, this.#order.inForce);
  }

  /** Call it after a request left the queue because it is over. */
  left(queue: ModelQueue): void {
    this.#waiting.turnChanged(queue);
    this.#arrivals.left(queue);
  }

  /** Places the requests that have arrived in this turn, without waiting for its end. */
  placeNow(): void {
    this.#arrivals.placeNow();
  }

  /** Gives the requests of these queues to replicas, as long as the router finds one with a free slot. */
  place(queues: readonly ModelQueue[]): void {
    for (const queue of queues) this.#gathering.update(queue, this.#rules.maxOngoing);
    this.#order.inForce.place(queues.filter(({ isGathering, size }) => !isGathering && size > 0));
    for (const queue of queues) this.#eligibility.update(queue);
    this.#express.serve();
  }

  /** Gives the replica work, as long as it has a free slot and a waiting request may go to it. */
  serve(candidate: Candidate<R>): void {
    if (this.#replicas.has(candidate)) {
      const next = this.#wide.following(candidate);
      if (next === undefined) this.#order.inForce.serve(candidate);
      else this.#giveNext(next, candidate);
      if (candidate.isIdle) this.#copies.loadNext();
    }
    this.#express.serve();
  }

  /** Serves replicas that have a free slot by the shared counters, which are ahead of the answers. */
  look(): void {
    this.placeNow();
    for (const candidate of this.#replicas.all()) this.#slots.lookAt(candidate);
    for (const candidate of [...this.#replicas.free]) this.serve(candidate);
  }

  /** Call it before the replica is told. @param sequence higher than all that requests have, and no later one's. */
  given(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch, sequence: number): void {
    this.#express.given(candidate, queue, dispatch);
    this.#wide.given(candidate, queue, dispatch);
    queue.servedAt = sequence;
    candidate.usedAt.set((dispatch.wide ?? queue.model).key, this.#clock.now());
    this.#slots.given(candidate, queue, sequence, dispatch);
  }

  /** Call it when a dispatch of the queue's requests has its answer, whatever it is, or its replica died. */
  answered(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch, sequence: number): void {
    this.#turn.begin();
    queue.servedAt = sequence;
    this.#waiting.turnChanged(queue);
    this.#wide.answered(candidate, dispatch);
    if (!this.#candidates.has(candidate)) return;
    this.#slots.answered(candidate, dispatch);
    // Its requests may have waited for the end of this run.
    if (queue.isGathering) this.place([queue]);
    if (this.#turn.isOver) this.#clock.nextTurn(() => this.serve(candidate));
    else this.serve(candidate);
  }

  /** The replica took `runMs` for so many requests of the dispatch together. */
  worked(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch, requests: number, runMs: number): void {
    candidate.answered(requests, runMs / requests);
    if (dispatch.wide === undefined && !dispatch.isHandled) this.#express.worked(queue, requests, runMs);
    // What the express replica does asks for no copy, and leaves none idle.
    if (candidate.replica.isExpress) return;
    this.#copies.worked(candidate, queue, runMs, dispatch.wide !== undefined);
    this.#wide.worked(candidate, queue, dispatch, runMs);
    this.#copies.loadNext();
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
    this.#wide.forget(queue);
    this.#express.forget(queue);
  }

  /** From now on no request waits for company. */
  stopGathering(): void {
    this.#gathering.stop();
    this.place(this.waiting());
  }

  #giveNext(queue: ModelQueue, candidate: Candidate<R>, most?: number): void {
    this.#give(queue, candidate, undefined, most);
    this.#eligibility.update(queue);
  }

  #give(queue: ModelQueue, candidate: Candidate<R>, scope?: DispatchScope, most = Number.POSITIVE_INFINITY): void {
    const wide = this.#wide.modelFor(queue, candidate);
    const share = wide === undefined ? this.#slots.share(candidate, queue) : 1;
    this.#actions.give(queue, candidate, Math.min(most, share), scope, wide);
    // The remaining requests may have to wait for company again.
    this.#gathering.update(queue, this.#rules.maxOngoing);
  }
}
