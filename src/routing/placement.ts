import type { Clock } from '../clock.js';
import { commonRows } from '../tensor.js';
import type { BarredLoads } from './barred-loads.js';
import { DenseSet } from './dense-set.js';
import { firstWithSlot } from './first-with-slot.js';
import { isQueueBefore, type ModelQueue } from './model-queue.js';
import { QueueParking, type QueueParkingObserver } from './queue-parking.js';
import { type ReplicaIndex, warmAmong } from './replica-index.js';
import { type LoadingReplica, ReplicaSlots } from './replica-slots.js';
import type { RequestRouter } from './request-router.js';
import { fullBatchRows } from './take-dispatch.js';
import { Turn } from './turn.js';
import { WaitingModels } from './waiting-models.js';

/** What is done with what a placement decides. */
export interface PlacementActions<R> extends Pick<QueueParkingObserver, 'refused'> {
  /** Gives the replica the next requests of the queue, at least one and at most so many, and tells {@link Placement.given}. */
  give(queue: ModelQueue, replica: R, most: number): void;
}

/**
 * Decides which replica is given which model's requests next: for a queue the replica that the router accepts and that has
 * a free slot, for a replica whose slot is free the queue whose turn it is.
 *
 * A slot goes to the first of the models that the replica has, or that no replica has. A model that waits for other,
 * busy replicas gets a load of its own here only when it has waited long enough and the replica has nothing else to do:
 * so spilling takes idle capacity and cannot make two loaded replicas evict each other's models. Only when it has waited
 * very long is it served in its turn anywhere.
 */
export class Placement<R extends LoadingReplica> {
  readonly #replicas: ReplicaIndex<R>;
  readonly #router: RequestRouter;
  readonly #clock: Clock;
  readonly #actions: PlacementActions<R>;
  readonly #waiting = new WaitingModels();
  readonly #parking: QueueParking;
  readonly #slots: ReplicaSlots<R>;
  readonly #turn: Turn;
  #mostOngoing: number;
  /** Queues that are to be placed when the present turn is over. */
  readonly #deferred = new DenseSet<ModelQueue>();
  #isGatheringAllowed = true;

  /** @param replicas filled and emptied here. */
  constructor(
    maxOngoingRequests: number,
    replicas: ReplicaIndex<R>,
    router: RequestRouter,
    barredLoads: BarredLoads,
    clock: Clock,
    actions: PlacementActions<R>,
  ) {
    this.#mostOngoing = mostOf(maxOngoingRequests);
    this.#replicas = replicas;
    this.#router = router;
    this.#clock = clock;
    this.#actions = actions;
    this.#turn = new Turn(clock);
    this.#parking = new QueueParking(this.#waiting, replicas, barredLoads, clock, {
      due: (queue) => this.place(queue),
      refused: (queue, error) => actions.refused(queue, error),
    });
    this.#slots = new ReplicaSlots(this.#mostOngoing, replicas, this.#waiting, clock, {
      freed: (replica) => this.serve(replica),
      mayLoad: (modelKey) => barredLoads.mayLoadInMs(modelKey) === 0,
    });
  }

  /** Batching may have changed as well: whatever waits is placed again. */
  configure(maxOngoingRequests: number): void {
    this.#mostOngoing = mostOf(maxOngoingRequests);
    this.#slots.configure(this.#mostOngoing);
    for (const queue of this.waiting()) this.place(queue);
  }

  addReplica(replica: R): void {
    this.#replicas.add(replica);
    this.#slots.add(replica);
    // One more cold replica: models that wait for warm ones may spill to it now or when their time comes.
    for (const queue of this.#waiting.all()) this.#parking.park(queue);
    this.serve(replica);
  }

  /** The queues of its models are to be placed after that. */
  removeReplica(replica: R): void {
    this.#replicas.delete(replica);
    this.#slots.delete(replica);
  }

  /** To be called after the model of this queue, if it has one, appeared in or disappeared from the replica, or was loaded. */
  modelChanged(replica: R, modelKey: string, queue: ModelQueue | undefined): void {
    this.#replicas.modelChanged(replica, modelKey);
    if (queue !== undefined) this.place(queue);
    // A load that ended lets the replica take other work.
    if (!replica.isLoading) this.serve(replica);
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
    if (!queue.isGathering) {
      for (let replica = this.#choose(queue); replica !== undefined; replica = this.#choose(queue)) {
        const first = this.#whoseTurn(replica, queue);
        this.#give(first, replica);
        if (first !== queue) this.#parking.park(first);
      }
    }
    this.#parking.park(queue);
  }

  /** Gives the replica work as long as it has a free slot and something waits that it may take. */
  serve(replica: R): void {
    if (!this.#replicas.has(replica)) return;
    const spilling = new Set<ModelQueue>();
    for (let queue = this.#nextFor(replica); queue !== undefined; queue = this.#nextFor(replica)) {
      this.#give(queue, replica);
      if (this.#parking.park(queue) === 'spilling') spilling.add(queue);
    }
    // The next request may have waited long enough for another replica, where the one before it had not.
    for (const queue of spilling) this.place(queue);
  }

  /** The shared counters show which replicas are done, before their answers can be handled. */
  look(): void {
    this.placeNow();
    for (const replica of this.#replicas.all()) this.#slots.lookAt(replica);
    for (const replica of [...this.#replicas.free]) this.serve(replica);
  }

  /** As {@link ReplicaSlots.given}. */
  given(replica: R, queue: ModelQueue, nextSequence: number, expectedMs: number): void {
    queue.servedAt = nextSequence;
    this.#slots.given(replica, queue, nextSequence, expectedMs);
  }

  /** To be called when a dispatch of the queue's requests has its answer, whatever it is, or its replica died. */
  answered(replica: R, queue: ModelQueue, nextSequence: number): void {
    this.#turn.begin();
    queue.servedAt = nextSequence;
    this.#waiting.turnChanged(queue);
    if (!this.#replicas.has(replica)) return;
    this.#slots.answered(replica);
    if (this.#turn.isOver) this.#clock.nextTurn(() => this.serve(replica));
    else this.serve(replica);
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

  #choose(queue: ModelQueue): R | undefined {
    const { modelKey, head } = queue;
    if (head === undefined) return undefined;
    const ranks = this.#router.chooseReplicas(this.#replicas, {
      modelKey,
      priority: head.priority,
      waitedMs: queue.waitedMs(this.#clock.now()),
      expectedLoadMs: queue.times.loadMs,
    });
    return firstWithSlot(ranks as readonly Iterable<R>[], (replica) => this.#slots.has(replica, queue));
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

  /** A model that the replica runs already is as good as served just now. */
  #isTurnBefore(replica: R, queue: ModelQueue, other: ModelQueue): boolean {
    const isEqual = queue.head?.priority === other.head?.priority;
    if (isEqual && this.#slots.isServing(replica, other)) return true;
    if (isEqual && this.#slots.isServing(replica, queue)) return false;
    return isQueueBefore(queue, other);
  }

  #give(queue: ModelQueue, replica: R): void {
    this.#actions.give(queue, replica, Math.min(this.#fairShare(queue, replica), this.#slots.room(replica)));
    // What is left may have to wait for company again.
    queue.gathersUntil = this.#gatherUntil(queue);
  }

  /** What waits is shared among the warm replicas that are as free as this one; what gathered goes together. */
  #fairShare(queue: ModelQueue, replica: R): number {
    const { size, modelKey, batching } = queue;
    if (size <= 1 || batching.maxWaitMs > 0) return size;
    const isIdle = this.#slots.isIdle(replica);
    const candidates = isIdle ? this.#replicas.idle : this.#replicas.free;
    let free = 0;
    for (const other of warmAmong(this.#replicas.warm(modelKey), candidates, modelKey)) {
      if (isIdle ? this.#slots.isIdle(other) : this.#slots.has(other, queue)) free += 1;
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
    if (queue.rows >= Math.min(fullBatchRows(queue), this.#mostOngoing)) return undefined;
    const until = queue.patientUntil(batching.maxWaitMs);
    return until > this.#clock.now() ? until : undefined;
  }
}

function mostOf(maxOngoingRequests: number): number {
  return maxOngoingRequests === -1 ? Number.POSITIVE_INFINITY : maxOngoingRequests;
}
