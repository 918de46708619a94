import type { ErrorCode } from '../common/errors.js';

/** A replica as a router sees it: always its present state. */
export interface ReplicaView {
  readonly id: string;
  readonly deployment: string;
  /** Names and values from the deployment's option `labels`. */
  readonly labels: Readonly<Record<string, string>>;
  /** Requests given to the replica and not finished, from the shared counters. */
  readonly ongoing: number;
  /**
   * Most ongoing requests that it may have at present: `maxOngoingRequests`, infinite without a limit. While the
   * replica takes no requests, because it loads a model or has one running and one waiting dispatch, this is the number
   * that it has.
   */
  readonly capacity: number;
  /** Sessions that it has or is loading, by {@link PendingRequestView.modelKey}; wide ones by a key of their own. */
  readonly models: ReadonlyMap<string, ModelState>;
  /**
   * Bytes of sessions that it may load without an eviction; infinite without a bound. Wide sessions count as free, since
   * they leave whenever room is needed.
   */
  readonly freeBytes: number;
  /** Sessions that it may load without an eviction; infinite without a bound. Wide sessions count as free. */
  readonly freeModels: number;
  /** Milliseconds until it is expected to have finished its work, loads under way included; 0 when it has no work. */
  readonly expectedWorkMs: number;
  readonly routingStats: RoutingStats;
}

/** Statistics of a replica, and what its handler's `recordRoutingStats` returned last. */
export interface RoutingStats {
  /** Requests answered per second, averaged over about the last ten seconds. */
  readonly throughput: number;
  /** Milliseconds that a request takes in onnxruntime or in the handler; recent ones count most. 0 before the first. */
  readonly runMs: number;
  /** Milliseconds that a load takes; recent ones count most. 0 before the first. */
  readonly loadMs: number;
  /** The handler's own statistics. A number with one of the names above replaces it. */
  readonly [name: string]: unknown;
}

/** Statistics that exist without a handler. */
export const BUILT_IN_STATS = ['throughput', 'runMs', 'loadMs'] as const satisfies readonly (keyof RoutingStats)[];

export type ModelState = 'loading' | 'loaded';

/** What a caller says of its request for routers: tokens, cost, tenant. */
export type RequestHints = Readonly<Record<string, string | number | boolean>>;

/** The request to place, as a router sees it. */
export interface PendingRequestView {
  /** The same in every call for this request. */
  readonly id: number;
  /** The model's id. */
  readonly model: string;
  /** Key of the model in {@link ReplicaView.models}; each version and revision has its own. */
  readonly modelKey: string;
  /** `runOptions.priority`; `-Infinity` for a shadow request. */
  readonly priority: number;
  /** `runOptions.shardKey`. */
  readonly shardKey: string | undefined;
  /** `runOptions.labels`. */
  readonly labels: Readonly<Record<string, string>>;
  /** `runOptions.hints`. */
  readonly hints: RequestHints;
  /**
   * Bytes of the feeds; of a handler's request, of the typed arrays, buffers and strings in it. A character counts as two.
   */
  readonly inputBytes: number;
  /** Rows along axis 0 that all feeds have; 0 when they differ. 1 for a handler's request. */
  readonly rows: number;
  /** Milliseconds that it has waited; for a router by model, that the model's longest waiting request has waited. */
  readonly waitedMs: number;
  /** Requests that wait for the model, this one included while it waits. */
  readonly queued: number;
  /**
   * Milliseconds that these requests have waited, added up. What they waited before the end of the model's last load does
   * not count; so it is 0 while a replica loads the model.
   */
  readonly totalWaitedMs: number;
  /**
   * Milliseconds for which these requests are expected to keep the replicas busy that have the model or are loading it,
   * with batches as large as they may get; 0 before its first load and run. When no replica has it: to keep one busy.
   */
  readonly expectedDrainMs: number;
  /** Bytes of the model, as {@link ReplicaView.freeBytes} counts them. */
  readonly modelBytes: number;
  /** Milliseconds that a run for one request is expected to take, from a moving average. */
  readonly expectedRunMs: number;
  /** Milliseconds that a load of the model is expected to take, from a moving average. */
  readonly expectedLoadMs: number;
}

/** What became of a request in the replica that it was routed to, whether or not its caller still waits. */
export interface RequestOutcome {
  readonly ok: boolean;
  /** The error's code; `REPLICA_FAILED` when the replica died or was given up. Undefined when it is `ok`. */
  readonly code: ErrorCode | undefined;
  /** Milliseconds that its run took, with the requests that it was joined with; 0 when it did not run. */
  readonly runMs: number;
  /** Milliseconds from its acceptance until it was given to the replica. */
  readonly queueMs: number;
  /** Requests that shared the run; 0 when it did not run. */
  readonly batchSize: number;
}

/**
 * Decides which replicas a request may go to. It is pure, except for what its hooks told it: views in, ranks out, at
 * once.
 *
 * It is a fault when a router throws, ranks something that is not a candidate, or ranks none although a candidate could
 * take the request. A fault is logged and counted, and the default router decides for that request.
 */
export interface RequestRouter {
  /**
   * Who decides when a model that replicas have is loaded by one more. `'engine'`, the default: such a cold replica is a
   * candidate only when the requests' waiting has paid for the load, as for the built-in routers by model. `'router'`: it
   * is always a candidate, so a burst may load the model wherever a replica is idle, and evict others there.
   */
  readonly spill?: 'engine' | 'router' | undefined;
  /**
   * It must answer at once, so it cannot return a promise: look up in a hook or a timer, and rank from what is known.
   *
   * @param candidates the running replicas of the deployment, at least one: those that have the model or are loading it,
   *   and the others while none has it, and as {@link spill} says. Shortly after a failed load of the model, only the
   *   replicas that have it.
   * @returns ranks, most preferred first. The request goes to the first rank that has a replica with a free slot, and
   *   there to the replica with the fewest requests. When no rank has one, the request waits, and the router is asked
   *   again when a slot frees. So a router that wants to wait for a busy replica ranks it. While cold replicas are no
   *   candidates, it may rank none, to wait for one of those.
   */
  chooseReplicas(candidates: readonly ReplicaView[], request: PendingRequestView): readonly (readonly ReplicaView[])[];
  /** The request was given to the replica. */
  onRequestRouted?(replica: ReplicaView, request: PendingRequestView): void;
  /**
   * The replica is done with the request, or died; called once for each request that was routed. A request whose
   * replica failed may be routed again.
   */
  onRequestCompleted?(replica: ReplicaView, request: PendingRequestView, outcome: RequestOutcome): void;
  /** Other replicas run from now on. Also called when the router begins. */
  onReplicasChanged?(candidates: readonly ReplicaView[]): void;
  /** The replica's thread died, or the replica was given up. It is not a candidate any more. */
  onReplicaFailed?(replica: ReplicaView, error: Error): void;
}

/**
 * A router that a module exports as its default: a class, made with `new Router(options)`; a function that returns a
 * router or a promise of one, called with `options`; or a router. It can be named where code cannot be given: in a change while the engine
 * runs, and in a checkpoint.
 */
export interface RouterModule {
  /**
   * A module that Node can import: its path (from the working directory) or its `file:` URL. A query or a hash in the URL
   * names another instance of the module.
   */
  readonly module: string | URL;
  /** What JSON can carry. */
  readonly options?: unknown;
}

/** Names of the built-in routers. */
export const ROUTER_NAMES = [
  ...(['power-of-two-choices', 'least-loaded', 'expected-completion'] as const),
  ...(['round-robin', 'uniform', 'throughput-aware', 'consistent-hash'] as const),
] as const;

export type RouterName = (typeof ROUTER_NAMES)[number];

export const DEFAULT_ROUTER: RouterName = 'power-of-two-choices';

/** The order in which requests leave: in turns of their models, or strictly in order of arrival. */
export const ORDERS = ['model', 'fifo'] as const;

export type Order = (typeof ORDERS)[number];
