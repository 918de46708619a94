import type { PendingRequestView, ReplicaView } from '../../../contracts/request-router.js';

/** The running replicas, indexed for choices: the cost of a look-up does not grow with their number. */
export interface ReplicaCandidates<R extends ReplicaView = ReplicaView> {
  readonly size: number;
  /** Replicas that have the model's session or are loading it. */
  warm(modelKey: string): readonly R[];
  /** Replicas with the fewest models. */
  readonly fewestModels: readonly R[];
  /** Replicas without an unanswered dispatch and without a load under way. */
  readonly idle: readonly R[];
  /** Replicas that can take one more dispatch for a model that they have. */
  readonly free: readonly R[];
}

/**
 * A router that goes by the model alone, and takes any warm replica that frees. So all requests for a model can wait in
 * one line, and the cost of a choice does not grow with the number of replicas.
 */
export interface ModelRouter {
  /** @returns ranks as {@link RequestRouter.chooseReplicas}; a rank is walked only if those before it are full. */
  chooseReplicas(candidates: ReplicaCandidates, request: PendingRequestView): readonly Iterable<ReplicaView>[];
  /**
   * Returns the milliseconds until the model is worth another load although replicas have it; 0 or less when it is
   * worth one now.
   *
   * @param warm the replicas that have the model; at least one.
   */
  msUntilSpill(warm: readonly ReplicaView[], request: PendingRequestView): number;
}
