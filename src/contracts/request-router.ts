/** What a router sees of a replica: always as it is now. */
export interface ReplicaView {
  readonly id: string;
  readonly deployment: string;
  /** Names and values that the deployment's option `labels` gave it. */
  readonly labels: Readonly<Record<string, string>>;
  /** Requests given to it and not finished, from the shared counters. */
  readonly ongoing: number;
  /**
   * Most requests that it may have at present: `maxOngoingRequests`, infinite without a limit; as many as it has while it takes
   * none, since it loads a model or has one message that runs and one that waits.
   */
  readonly capacity: number;
  /** Sessions it has, or is loading, by {@link PendingRequestView.modelKey}. */
  readonly models: ReadonlyMap<string, ModelState>;
  /** Bytes of sessions that it may still load; infinite without a bound. */
  readonly freeBytes: number;
  /** Sessions that it may still load before one has to leave; infinite without a bound. */
  readonly freeModels: number;
  /** Milliseconds until it is expected to have done what it was given, loads under way included; 0 when it has nothing to do. */
  readonly expectedWorkMs: number;
  readonly routingStats: RoutingStats;
}

/** What is known of how a replica fares, and what its handler's `recordRoutingStats` last told of itself. */
export interface RoutingStats {
  /** Requests answered per second, over about the last ten. */
  readonly throughput: number;
  /** Milliseconds that a request takes in onnxruntime, or in the handler; recent ones count most. 0 before the first. */
  readonly runMs: number;
  /** Milliseconds that a load takes, likewise. */
  readonly loadMs: number;
  /** The handler's. A number that it calls like one of the above goes before. */
  readonly [name: string]: unknown;
}

/** Those that are there without a handler. */
export const BUILT_IN_STATS = ['throughput', 'runMs', 'loadMs'] as const satisfies readonly (keyof RoutingStats)[];

export type ModelState = 'loading' | 'loaded';

/** What a router sees of the request that is to be placed. */
export interface PendingRequestView {
  /** The same whenever the request is told of. */
  readonly id: number;
  /** The model's id. */
  readonly model: string;
  /** What {@link ReplicaView.models} has the model under: it tells apart its versions and revisions. */
  readonly modelKey: string;
  readonly priority: number;
  /** `runOptions.shardKey`. */
  readonly shardKey: string | undefined;
  /** `runOptions.labels`. */
  readonly labels: Readonly<Record<string, string>>;
  /** Milliseconds that it has waited; where routers go by models, that the longest waiting request for the model has. */
  readonly waitedMs: number;
  /** Requests that wait for the model, this one included as long as it does. */
  readonly queued: number;
  /** Milliseconds that the model's run is expected to take for one request, and its load; from moving averages. */
  readonly expectedRunMs: number;
  readonly expectedLoadMs: number;
}

/**
 * Decides which replicas a request may go to. Pure, but for what its hooks told it: views in, ranks out, in no time.
 *
 * A router that throws, or that ranks what is no replica, or none though one could take the request, is logged, counted, and
 * passed over for that request: the default router decides.
 */
export interface RequestRouter {
  /**
   * @param candidates the running replicas of the deployment, at least one; while the model is not to be loaded, since a load of
   *   it has failed a moment ago, only those that have it.
   * @returns ranks, most preferred first. The request goes to the first rank that has a replica with a free slot, and in it to
   *   the one with the fewest requests. When no rank has one, it waits, and the router is asked again when something frees: so
   *   to wait for a replica is to rank it, whether it is free or not.
   */
  chooseReplicas(candidates: readonly ReplicaView[], request: PendingRequestView): readonly (readonly ReplicaView[])[];
  /** The request was given to the replica. */
  onRequestRouted?(replica: ReplicaView, request: PendingRequestView): void;
  /**
   * The replica is done with it, or lost; once for each request that was routed. One whose replica failed may be routed again.
   */
  onRequestCompleted?(replica: ReplicaView, request: PendingRequestView): void;
  /** Other replicas run from now on. Also called when the router begins. */
  onReplicasChanged?(candidates: readonly ReplicaView[]): void;
  /** Its thread died, or it was given up; it is no candidate any more. */
  onReplicaFailed?(replica: ReplicaView, error: Error): void;
}

/** Names of the routers that there are. */
export const ROUTER_NAMES = [
  ...(['power-of-two-choices', 'least-loaded', 'expected-completion'] as const),
  ...(['round-robin', 'uniform', 'throughput-aware', 'consistent-hash'] as const),
] as const;

export type RouterName = (typeof ROUTER_NAMES)[number];

export const DEFAULT_ROUTER: RouterName = 'power-of-two-choices';

/** In which order requests leave: in turns of their models, or strictly as they came. */
export const ORDERS = ['model', 'fifo'] as const;

export type Order = (typeof ORDERS)[number];
