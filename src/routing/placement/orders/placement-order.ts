import type { DispatchScope } from '../../batches/take-dispatch.js';
import type { PendingRequest } from '../../pending-request.js';
import type { Eligibility } from '../../queues/eligibility.js';
import type { ModelQueue } from '../../queues/model-queue.js';
import type { QueueOrder, WaitingModels } from '../../queues/waiting-models.js';
import type { Candidate, RoutableReplica } from '../replicas/candidate.js';
import type { ReplicaIndex } from '../replicas/replica-index.js';
import type { ReplicaSlots } from '../replicas/replica-slots.js';

/** The order of placement: finds replicas for the requests of a queue, and requests for a free replica. */
export interface PlacementOrder<R extends RoutableReplica> {
  /** Whether a model may be worth another load after a wait, although no slot has freed. */
  readonly spills: boolean;
  /** Whether requests may wait for a cold replica: then every queue is placed again when a replica leaves. */
  readonly looksAtAll: boolean;
  /** Whether models take turns, and the requests of a model may go wherever it is warm. */
  readonly takesTurns: boolean;
  /** How {@link WaitingModels.first} is to order the waiting queues; absent where it is not asked. */
  readonly isBefore?: QueueOrder;
  /** Places the requests of these queues as far as the router finds free replicas. No queue among them is gathering. */
  place(queues: readonly ModelQueue[]): void;
  /** Places a request that arrived behind others of its queue; absent where requests of a queue keep their order. */
  placeBehind?(queue: ModelQueue, request: PendingRequest): void;
  /** Gives the replica work, as long as it has a free slot and a waiting request may go to it. */
  serve(candidate: Candidate<R>): void;
}

/** What an order works with. */
export interface PlacementContext<R extends RoutableReplica> {
  readonly replicas: ReplicaIndex<Candidate<R>>;
  readonly slots: ReplicaSlots<R>;
  readonly waiting: WaitingModels;
  /**
   * Returns the replica that the router chooses for the request; undefined when the request has to wait.
   *
   * @param may which of the replicas with a free slot the router may choose. Default: all.
   */
  choose(
    queue: ModelQueue,
    request: PendingRequest,
    may?: (candidate: Candidate<R>) => boolean,
  ): Candidate<R> | undefined;
  /** Whether the router finds the queue's model, which other replicas have, worth a load in this idle replica. */
  spillsTo(queue: ModelQueue, candidate: Candidate<R>): boolean;
  /** Whether the router need be asked only once for both requests of a model. */
  areRoutedAlike(left: PendingRequest, right: PendingRequest): boolean;
  /** Gives the replica its share of the queue's next requests, or of the requests in the scope. */
  give(queue: ModelQueue, candidate: Candidate<R>, scope?: DispatchScope): void;
  /** Call it when the queue's requests changed. */
  updateEligibility(queue: ModelQueue): Eligibility | undefined;
  /** Calls back in the next turn of the event loop, if this order is in force then. */
  nextTurn(callback: () => void): void;
  /** Places the queue's requests again. */
  place(queue: ModelQueue): void;
}
