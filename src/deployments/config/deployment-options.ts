import type { Batching } from '../../contracts/batching.js';
import type { EvictionName } from '../../contracts/eviction.js';
import type { HandlerTimeouts } from '../../contracts/handler.js';
import type { Isolation, ResolvedIsolation } from '../../contracts/isolation.js';
import type { WeightPlacement } from '../../contracts/model-reference.js';
import type { Order, RequestRouter, RouterModule, RouterName } from '../../contracts/request-router.js';
import type { SessionOptions } from '../../contracts/session-settings.js';
import type { AutoscalingOptions, ResolvedAutoscaling } from '../autoscaling/autoscaler.js';
import type { ResolvedRouterModule } from './router-module.js';

/** Options of one deployment: a named group of identical replicas. */
export interface DeploymentOptions {
  /**
   * Worker threads, each with its own sessions; about 10 MB each. 0: none, and requests are refused. Default: one for
   * each core that this process may use; 1 for a deployment other than `default`. With `autoscaling`: the number at the
   * start; default `minReplicas`.
   */
  readonly replicas?: number | undefined;
  /**
   * Maximum number of sessions in one replica; `eviction` chooses which one is removed for a new one. -1: no limit.
   * Default 3.
   */
  readonly maxModelsPerReplica?: number | undefined;
  /** Maximum bytes of the files of the models that one replica has loaded. Default -1: no limit. */
  readonly maxModelBytesPerReplica?: number | undefined;
  /** Milliseconds after which an unused session is evicted. Default -1: never. */
  readonly modelIdleTimeoutMs?: number | undefined;
  /**
   * Maximum number of ongoing requests of one replica. With a handler: how many calls it has at once, and the default
   * is 5; for one that computes all the time 1 is enough. Without a handler, and for `handleBatch`, the default is -1,
   * no fixed number: a replica has one batch running and, if runs are short, one more sent in advance. With 1, requests
   * are neither batched nor sent in advance.
   */
  readonly maxOngoingRequests?: number | undefined;
  /** Maximum number of pending requests; more are refused with `QUEUE_FULL`. -1: no limit. Default 4096. */
  readonly maxQueuedRequests?: number | undefined;
  /** Timeout in milliseconds of requests that set none. Default -1: no limit. */
  readonly defaultTimeoutMs?: number | undefined;
  /**
   * Joins requests for one model into one call if the results stay the same. Default `'auto'`; a model's `model.json`
   * may override it for that model.
   */
  readonly batching?: Batching | undefined;
  /** Options of onnxruntime, such as execution providers and threads. */
  readonly session?: SessionOptions | undefined;
  /**
   * Ids of devices over which the replicas are spread: `deviceId` of the execution providers other than `cpu`. Default:
   * each provider chooses.
   */
  readonly devices?: readonly number[] | undefined;
  /**
   * `'private'`: each replica has its own copy of a model's weights. `'shared'`: the first load compiles the model for
   * this machine, into the weight store, and all replicas map the same pages. Models of less than a megabyte, in the ORT
   * format or for execution providers other than `cpu` stay private. Default `'auto'`: private at first; a model of 16 MiB
   * or more that has two sessions is compiled in the background, and its sessions then change over one after the other.
   */
  readonly weights?: WeightPlacement | undefined;
  /**
   * Maximum milliseconds of one load of a model, including its warm-up runs and, for `weights: 'shared'`, its
   * compilation. After that its callers get `MODEL_LOAD_FAILED`, and the replica is replaced. The model is loaded again
   * only after a delay, which grows with each failure, and only after the old thread has finished the load. -1: no
   * limit. Default: two minutes, and one second more for each 5 MB of the model's files.
   */
  readonly loadTimeoutMs?: number | undefined;
  /**
   * Milliseconds in which a stopping replica must finish its ongoing requests; after that they go to other replicas.
   * For the deployment `default` also the time that `close()` waits for accepted requests, and that `close()` and
   * `destroy()` wait for threads in a native call. Default 20000.
   */
  readonly gracefulShutdownTimeoutMs?: number | undefined;
  /**
   * A module that Node can import: its path (from the working directory) or its `file:` URL. A URL with another query
   * or hash loads the module again. Its `handle` gets the requests in the replica, instead of a model; a request is any
   * value that can be cloned. A handler cannot be added or removed later.
   */
  readonly handler?: string | URL | undefined;
  /** Timeouts of `loadModel`, `reconfigure` and disposal in the handler's module. */
  readonly handlerTimeouts?: HandlerTimeoutOptions | undefined;
  /** Memory and cores that each replica needs; the engine's `overcommit` decides what happens if they do not fit. */
  readonly resources?: ResourceOptions | undefined;
  /** JSON data for the handler's `reconfigure`. */
  readonly userConfig?: unknown;
  /** Names and values that distinguish replicas, for routers. The entries of a list are spread over the replicas. */
  readonly labels?: Labels | readonly Labels[] | undefined;
  /** How often replicas are checked, and when they are replaced. */
  readonly healthCheck?: HealthCheckOptions | undefined;
  /** How replicas are replaced when options change. */
  readonly rollingUpdate?: RollingUpdateOptions | undefined;
  /**
   * How a replica is chosen for a request: the name of a router (`docs/routing.md` describes them), your own router, or
   * the module that exports one. Default `'power-of-two-choices'`.
   */
  readonly router?: RouterName | RequestRouter | RouterModule | undefined;
  /**
   * `'model'`: models take turns, so that no model delays another for long. `'fifo'`: requests go strictly in the order
   * of their arrival, whatever their model. If no replica can take the first request, all others wait, except while its
   * model is loaded for the first time. In both orders, `priority` only changes the order within one model: the request
   * with the highest priority takes the position of that model's oldest request. Default `'model'`.
   */
  readonly order?: Order | undefined;
  /**
   * Which session a replica evicts to load another one: the least recently used, or the one with the lowest value of
   * requests × load time ÷ bytes. Default `'lru'`.
   */
  readonly eviction?: EvictionName | undefined;
  /** How often the handler's `recordRoutingStats` is called. */
  readonly routingStats?: RoutingStatsOptions | undefined;
  /**
   * `'auto'`: if short runs wait behind long ones, the deployment starts an additional thread for short runs only. It
   * does not count as one of the `replicas`, in any number or limit. It is not used with a `handler`, with `order:
   * 'fifo'`, with your own router, or with the routers `consistent-hash`, `throughput-aware`, `round-robin` and
   * `uniform`. `false`: never. Default `'auto'`.
   */
  readonly express?: 'auto' | false | undefined;
  /**
   * `'thread'`: replicas are threads of this process. `'process'`: each is a process of its own. Native code in it can
   * neither end this process nor hold it for ever: see `docs/isolation.md`. An object has its settings. Default `'thread'`.
   */
  readonly isolation?: Isolation | undefined;
  /** Adapts the number of replicas to the number of requests. Default: none, the number is `replicas`. */
  readonly autoscaling?: AutoscalingOptions | undefined;
}

export type Labels = Readonly<Record<string, string>>;

/** Memory, cores and devices that one replica needs. */
export interface ResourceOptions {
  /** Bytes of memory. Default: the average of the running replicas. */
  readonly memoryBytes?: number | undefined;
  /** Number of cores, can be a fraction. Default: 1, or 0 if the replica computes on other devices. */
  readonly cores?: number | undefined;
  /** Number of the deployment's `devices`, can be a fraction. Default: not counted. */
  readonly devices?: number | undefined;
}

export interface HealthCheckOptions {
  /** Milliseconds between two checks. Default 10000. */
  readonly periodMs?: number | undefined;
  /**
   * Milliseconds in which a replica must answer a check. If a run blocks the replica until `failures` checks in a row
   * have failed, it counts as endless, and the replica is replaced. Loads have their own limit, `loadTimeoutMs`.
   * Default 30000.
   */
  readonly timeoutMs?: number | undefined;
  /** Failed checks in a row after which the replica is replaced. Default 3. */
  readonly failures?: number | undefined;
}

/** How often `recordRoutingStats` of the handlers is called. */
export interface RoutingStatsOptions {
  /** Milliseconds between two calls, with a random deviation of up to 10 %. Default 10000. */
  readonly periodMs?: number | undefined;
  /** Maximum milliseconds of a call. Default 30000. */
  readonly timeoutMs?: number | undefined;
}

/** Timeouts of the handler's functions. -1: no limit. */
export interface HandlerTimeoutOptions {
  /** Maximum milliseconds of `loadModel`; a model that it returns later is disposed of. Default 60000. */
  readonly loadModelMs?: number | undefined;
  /**
   * Maximum milliseconds for disposing of the handler's own model; after that it counts as not released. Default 10000.
   */
  readonly disposeMs?: number | undefined;
  /** Maximum milliseconds of `reconfigure`; after that the configuration counts as refused. Default 60000. */
  readonly reconfigureMs?: number | undefined;
}

export interface RollingUpdateOptions {
  /** Share of the replicas, from 0 to 1, that are replaced at a time; at least one. Default 0.2. */
  readonly fraction?: number | undefined;
}

type Plain = Exclude<
  keyof DeploymentOptions,
  | 'devices'
  | 'maxOngoingRequests'
  | 'loadTimeoutMs'
  | 'handler'
  | 'userConfig'
  | 'labels'
  | 'router'
  | 'autoscaling'
  | 'isolation'
>;

/** The options with every default filled in. */
export type ResolvedDeploymentOptions = {
  readonly [K in Exclude<
    Plain,
    'healthCheck' | 'rollingUpdate' | 'routingStats' | 'handlerTimeouts' | 'resources'
  >]-?: NonNullable<DeploymentOptions[K]>;
} & {
  readonly devices: readonly number[] | undefined;
  /** Undefined: it follows from what the handler takes, if there is one. */
  readonly maxOngoingRequests: number | undefined;
  /** Undefined: it follows from the model's bytes. */
  readonly loadTimeoutMs: number | undefined;
  /** URL of the module. */
  readonly handler: string | undefined;
  readonly userConfig: unknown;
  readonly labels: readonly Labels[];
  readonly router: RouterName | RequestRouter | ResolvedRouterModule;
  readonly healthCheck: { readonly [K in keyof HealthCheckOptions]-?: number };
  readonly routingStats: { readonly [K in keyof RoutingStatsOptions]-?: number };
  readonly handlerTimeouts: HandlerTimeouts;
  readonly resources: { readonly [K in keyof ResourceOptions]: number | undefined };
  readonly rollingUpdate: { readonly [K in keyof RollingUpdateOptions]-?: number };
  readonly autoscaling: ResolvedAutoscaling | undefined;
  readonly isolation: ResolvedIsolation;
};
