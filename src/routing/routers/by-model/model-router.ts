import type { PendingRequestView, ReplicaView } from '../../../contracts/request-router.js';

/** The running replicas, with what a choice needs at hand; no look-up grows with their number. */
export interface ReplicaCandidates<R extends ReplicaView = ReplicaView> {
  readonly size: number;
  /** Replicas that have the model's session or are loading it. */
  warm(modelKey: string): readonly R[];
  /** Replicas with the fewest models. */
  readonly fewestModels: readonly R[];
  /** Replicas that were given nothing that is not answered, and load nothing. */
  readonly idle: readonly R[];
  /** Replicas that can take one more request for a model that they have. */
  readonly free: readonly R[];
}

/**
 * A router that goes by the model alone, and to which one replica that has it is as good as another when it frees. So all
 * requests for a model can wait in one line, and the cost of a choice does not grow with the number of replicas.
 */
export interface ModelRouter {
  /** @returns as {@link RequestRouter.chooseReplicas}; a rank is walked only if those before it fail. */
  chooseReplicas(candidates: ReplicaCandidates, request: PendingRequestView): readonly Iterable<ReplicaView>[];
  /**
   * Milliseconds until the model is worth another load, although replicas have it; 0 or less when it is.
   *
   * @param warm those replicas; at least one.
   */
  msUntilSpill(warm: readonly ReplicaView[], request: PendingRequestView): number;
}
