/** What a router sees of a replica. */
export interface ReplicaView {
  readonly id: string;
  /** Requests given to it and not finished, from the shared counters. */
  readonly ongoing: number;
  /** Sessions it has, or is loading, by model key. */
  readonly models: ReadonlyMap<string, ModelState>;
  /** Bytes of sessions that it may still load; infinite without a bound. */
  readonly freeBytes: number;
}

export type ModelState = 'loading' | 'loaded';

/** The running replicas, with what a choice needs at hand; no look-up grows with their number. */
export interface ReplicaCandidates {
  readonly size: number;
  /** Replicas that have the model's session or are loading it. */
  warm(modelKey: string): readonly ReplicaView[];
  /** Replicas with the fewest models. */
  readonly fewestModels: readonly ReplicaView[];
  /** Replicas that were given nothing that is not answered. */
  readonly idle: readonly ReplicaView[];
  /** Replicas that can take one more request for a model that they have. */
  readonly free: readonly ReplicaView[];
}

/** What a router sees of the request that is to be placed: the first of its model's queue. */
export interface PendingRequestView {
  readonly modelKey: string;
  readonly priority: number;
  /** Milliseconds that the longest waiting request for the model has waited. */
  readonly waitedMs: number;
  /** Milliseconds that a load of its model is expected to take. */
  readonly expectedLoadMs: number;
}

/**
 * Decides where a request may go. Pure: views in, ranks out.
 *
 * The request goes to the first rank that has a replica with a free slot, and in it to the one with the shortest queue.
 * When no rank has one, it waits.
 */
export interface RequestRouter {
  /** @returns ranks, most preferred first; a replica may stand in several. A rank is walked only if those before it fail. */
  chooseReplicas(candidates: ReplicaCandidates, request: PendingRequestView): readonly Iterable<ReplicaView>[];
}
