import type { ErrorCode } from '../common/errors.js';

/** A replica as a router sees it, always in its current state. */
export interface ReplicaView {
  readonly id: string;
  readonly deployment: string;
  /** Names and values from the deployment's option `labels`. */
  readonly labels: Readonly<Record<string, string>>;
  /** Requests sent to the replica and not finished, from the shared counters. */
  readonly ongoing: number;
  /**
   * Maximum number of ongoing requests: `maxOngoingRequests`, or infinite. While the replica cannot accept requests,
   * because it loads a model or has one batch running and one waiting, it is the same as `ongoing`.
   */
  readonly capacity: number;
  /** Sessions that it has or is loading, by {@link PendingRequestView.modelKey}; wide ones with a separate key. */
  readonly models: ReadonlyMap<string, ModelState>;
  /**
   * Bytes of sessions that it can load without an eviction; infinite without a limit. Wide sessions count as free,
   * because they are removed when room is needed.
   */
  readonly freeBytes: number;
  /** Number of sessions that it can load without an eviction; infinite without a limit. Wide sessions count as free. */
  readonly freeModels: number;
  /** Expected milliseconds until it has finished its work, including current loads; 0 if it has no work. */
  readonly expectedWorkMs: number;
  readonly routingStats: RoutingStats;
}

/** Statistics of a replica, and the last result of its handler's `recordRoutingStats`. */
export interface RoutingStats {
  /** Requests answered per second, averaged over about the last ten seconds. */
  readonly throughput: number;
  /** Milliseconds that a request takes in onnxruntime or in the handler; recent ones count most. 0 before the first. */
  readonly runMs: number;
  /** Milliseconds that a load takes; recent ones count most. 0 before the first. */
  readonly loadMs: number;
  /**
   * The handler's own statistics. If it returns a number named `throughput`, `runMs` or `loadMs`, that replaces the
   * built-in one.
   */
  readonly [name: string]: unknown;
}

/** Statistics that exist without a handler. */
export const BUILT_IN_STATS = ['throughput', 'runMs', 'loadMs'] as const satisfies readonly (keyof RoutingStats)[];

export type ModelState = 'loading' | 'loaded';

/** Facts about a request for routers: tokens, cost, tenant. */
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
   * Bytes of the feeds; for a handler, bytes of the typed arrays, buffers and strings in the request. A character
   * counts as two.
   */
  readonly inputBytes: number;
  /** Rows along axis 0 that all feeds have; 0 when they differ. 1 for a handler's request. */
  readonly rows: number;
  /**
   * Milliseconds that it has waited; for routers that choose by model, milliseconds that the model's longest waiting
   * request has waited.
   */
  readonly waitedMs: number;
  /** Requests that wait for the model, this one included while it waits. */
  readonly queued: number;
  /**
   * Total milliseconds that the `queued` requests have waited since the model's last load ended; so it is 0 while a
   * replica loads the model.
   */
  readonly totalWaitedMs: number;
  /**
   * Expected milliseconds until the replicas that have the model or are loading it have run the `queued` requests, in
   * batches as large as possible; 0 before the model's first load and run. If no replica has the model: until one
   * replica has run them.
   */
  readonly expectedDrainMs: number;
  /** Bytes of the model, as {@link ReplicaView.freeBytes} counts them. */
  readonly modelBytes: number;
  /** Expected milliseconds of a run for one request, from a moving average. */
  readonly expectedRunMs: number;
  /** Expected milliseconds of a load of the model, from a moving average. */
  readonly expectedLoadMs: number;
}

/** The outcome of a request in the replica that it was routed to, even if its caller no longer waits. */
export interface RequestOutcome {
  readonly ok: boolean;
  /** The error's code; `REPLICA_FAILED` if the replica died or was replaced. Undefined if it is `ok`. */
  readonly code: ErrorCode | undefined;
  /** Milliseconds of its run, together with the requests in its batch; 0 if it did not run. */
  readonly runMs: number;
  /** Milliseconds from its acceptance until it was sent to the replica. */
  readonly queueMs: number;
  /** Requests that shared the run; 0 when it did not run. */
  readonly batchSize: number;
}

/**
 * Decides which replicas a request may go to, from its arguments and what its hooks have recorded.
 *
 * If a router throws, ranks something that is not a candidate, or ranks none although a candidate could take the
 * request, this is logged and counted, and the default router decides for that request.
 */
export interface RequestRouter {
  /**
   * Who decides when one more replica loads a model that others have loaded. `'engine'`, the default: a replica without
   * the model becomes a candidate when the requests have together waited as long as a load takes. `'router'`: it is
   * always a candidate, so a burst can load the model wherever a replica is idle, and evict others there.
   */
  readonly spill?: 'engine' | 'router' | undefined;
  /**
   * It cannot return a promise. If it needs data from elsewhere, fetch it in a hook or a timer.
   *
   * @param candidates the deployment's running replicas that have the model or are loading it, at least one. The other
   *   replicas are included if no replica has the model, or if {@link spill} allows it, but not shortly after a failed
   *   load of the model.
   * @returns ranks, most preferred first. The request goes to the first rank that has a replica with a free slot, and
   *   there to the replica with the fewest requests. If no rank has one, the request waits, and the router is called
   *   again when a slot is free. To wait for a busy replica, include it. An empty result is allowed only while replicas
   *   without the model are not candidates: the request then waits for one of the candidates.
   */
  chooseReplicas(candidates: readonly ReplicaView[], request: PendingRequestView): readonly (readonly ReplicaView[])[];
  /** The request was sent to the replica. */
  onRequestRouted?(replica: ReplicaView, request: PendingRequestView): void;
  /**
   * The replica has finished the request, or died. Called once for each routed request. A request whose replica failed
   * can be routed again.
   */
  onRequestCompleted?(replica: ReplicaView, request: PendingRequestView, outcome: RequestOutcome): void;
  /** The running replicas have changed. Also called when the router starts. */
  onReplicasChanged?(candidates: readonly ReplicaView[]): void;
  /** The replica died or is being replaced. It is not a candidate any more. */
  onReplicaFailed?(replica: ReplicaView, error: Error): void;
}

/**
 * A router that a module exports as its default: a class, made with `new Router(options)`; a function that returns a
 * router or a promise of one, called with `options`; or a router. Unlike a router object, it can be saved in a
 * checkpoint.
 */
export interface RouterModule {
  /**
   * A module that Node can import: its path (from the working directory) or its `file:` URL. A URL with another query
   * or hash loads the module again.
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
