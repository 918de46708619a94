import type { Order } from '../../contracts/request-router.js';
import type { DispatchScope } from '../batches/take-dispatch.js';
import type { DispatcherObserver, DispatcherOptions } from '../dispatcher-options.js';
import type { RoutedModel } from '../pending-request.js';
import type { ModelQueue } from '../queues/model-queue.js';
import type { QueueEligibilityObserver } from '../queues/queue-eligibility.js';
import type { ModelCopy } from './model-copies.js';
import type { Candidate, RoutableReplica } from './replicas/candidate.js';
import type { WideRules } from './wide/wide-sessions.js';

/** Carries out what a placement decides. */
export interface PlacementActions<R extends RoutableReplica>
  extends Pick<QueueEligibilityObserver, 'refused'>,
    Pick<DispatcherObserver, 'expressNeeded'> {
  /** Loads a copy of a model in an idle replica. */
  copy(copy: ModelCopy<R>): void;
  /**
   * Gives the replica the next requests of the queue, from one to `most`, and calls {@link Placement.given}.
   *
   * @param wide the model to run instead of the queue's, with several threads.
   */
  give(
    queue: ModelQueue,
    candidate: Candidate<R>,
    most: number,
    scope: DispatchScope | undefined,
    wide: RoutedModel | undefined,
  ): void;
  /** Loads a wide session in an idle replica. Rejects when it cannot be loaded. */
  loadWide(replica: RoutableReplica, model: RoutedModel): PromiseLike<void>;
  /** Accepted requests without an answer. */
  accepted(): number;
  /** Whether all of them are for the model. Takes the longer the more there are. */
  areAllOf(modelKey: string): boolean;
}

/** How a placement decides. */
export interface PlacementRules extends WideRules {
  /** Most ongoing requests of a replica. Infinite: no limit but that of dispatches. Undefined: by what it works on. */
  readonly maxOngoing: number | undefined;
  /** Whether models take turns, or requests go strictly in order of arrival, whatever their model. */
  readonly order: Order;
}

/** @param cores that a wide run can use. */
export function rulesOf(
  { maxOngoingRequests, order = 'model', session = {} }: DispatcherOptions,
  cores: number,
): PlacementRules {
  const maxOngoing = maxOngoingRequests === -1 ? Number.POSITIVE_INFINITY : maxOngoingRequests;
  return { order, maxOngoing, session, cores };
}
