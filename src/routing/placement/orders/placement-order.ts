import type { DispatchScope } from '../../batches/take-dispatch.js';
import type { PendingRequest } from '../../pending-request.js';
import type { Eligibility } from '../../queues/eligibility.js';
import type { ModelQueue } from '../../queues/model-queue.js';
import type { WaitingModels } from '../../queues/waiting-models.js';
import type { Candidate, RoutableReplica } from '../replicas/candidate.js';
import type { ReplicaIndex } from '../replicas/replica-index.js';
import type { ReplicaSlots } from '../replicas/replica-slots.js';

/** In which order requests are placed: for a queue the replica that the router accepts, for a free replica what comes next. */
export interface PlacementOrder<R extends RoutableReplica> {
  /** Whether a model may be worth another load when its requests have waited for a while, though nothing has freed. */
  readonly spills: boolean;
  /** Whether replicas that have not got a model may be waited for, so that all are to be looked at when one is gone. */
  readonly looksAtAll: boolean;
  /** Places the requests of these queues, which do not wait for company, as far as the router finds free replicas. */
  place(queues: readonly ModelQueue[]): void;
  /** Places a request that came behind others of its queue; absent where none is placed before those. */
  placeBehind?(queue: ModelQueue, request: PendingRequest): void;
  /** Gives out work as long as the replica has a free slot and something waits that it may take. */
  serve(candidate: Candidate<R>): void;
}

/** What orders work with. */
export interface PlacementContext<R extends RoutableReplica> {
  readonly replicas: ReplicaIndex<Candidate<R>>;
  readonly slots: ReplicaSlots<R>;
  readonly waiting: WaitingModels;
  /**
   * Where the router lets the request go; undefined when it has to wait.
   *
   * @param may which of the replicas with a free slot are at its disposal: all by default.
   */
  choose(
    queue: ModelQueue,
    request: PendingRequest,
    may?: (candidate: Candidate<R>) => boolean,
  ): Candidate<R> | undefined;
  /** Gives the replica its share of the queue's next requests, or of those in the scope. */
  give(queue: ModelQueue, candidate: Candidate<R>, scope?: DispatchScope): void;
  /** To be called when the queue's requests changed. */
  updateEligibility(queue: ModelQueue): Eligibility | undefined;
  /** Calls back in the next turn of the event loop, if this order is in force then. */
  nextTurn(callback: () => void): void;
  /** Places all of the queue's requests anew. */
  place(queue: ModelQueue): void;
}
