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
  /** Whether one of the replicas is loading the model. */
  isLoading(modelKey: string): boolean;
}

/** What waits for a model: what a choice by model depends on. */
export type ModelDemand = Omit<
  PendingRequestView,
  'id' | 'priority' | 'shardKey' | 'labels' | 'hints' | 'inputBytes' | 'rows'
>;

/** When a model may be worth another load, in an idle replica that the load would keep from nothing. */
export interface Spill {
  /** Whether it may be worth it now where no other model has to leave. */
  readonly atOnce: boolean;
  /** Milliseconds until it may be worth it wherever it goes; 0 or less when that is now. */
  readonly inMs: number;
}

/**
 * A router that goes by the model alone, and takes any warm replica that frees. So all requests for a model can wait in
 * one line, and the cost of a choice does not grow with the number of replicas.
 */
export interface ModelRouter {
  /** @returns ranks as {@link RequestRouter.chooseReplicas}; a rank is walked only if those before it are full. */
  chooseReplicas(candidates: ReplicaCandidates, demand: ModelDemand): readonly Iterable<ReplicaView>[];
  /** When the model may be worth another load although replicas have it. */
  spillOf(candidates: ReplicaCandidates, demand: ModelDemand): Spill;
  /** Whether the model, which other replicas have, is worth a load in this idle replica now. */
  spillsTo(candidates: ReplicaCandidates, demand: ModelDemand, replica: ReplicaView): boolean;
}
