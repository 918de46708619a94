/** What the console's server tells its page. The page imports these types alone. */

/** Milliseconds below which so many per cent of the requests were answered; undefined without requests. */
export interface Latency {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

/** How much went on, per second. */
export interface Activity {
  readonly requests: number;
  readonly errors: number;
  readonly latency: Latency | undefined;
}

export interface ModelLine extends Activity {
  readonly id: string;
  readonly version: number;
  readonly bytes: number;
  readonly queued: number;
  /** Replicas that have the model, or load it. */
  readonly replicas: number;
}

export interface SessionLine {
  readonly id: string;
  readonly version: number;
  readonly isLoading: boolean;
  /** Whether it has several threads. */
  readonly isWide: boolean;
  readonly isShared: boolean;
}

export interface ReplicaLine {
  readonly id: string;
  readonly deployment: string;
  readonly state: string;
  readonly isExpress: boolean;
  readonly ongoing: number;
  /** Requests that it answers in a second. */
  readonly perSecond: number;
  readonly failed: number;
  readonly restarts: number;
  /** The model that it runs, and for how many requests; undefined when it has nothing to do. */
  readonly work: { readonly model: string; readonly requests: number; readonly isWide: boolean } | undefined;
  readonly models: readonly SessionLine[];
}

export interface DeploymentLine {
  readonly name: string;
  readonly state: string;
  readonly isReady: boolean;
  readonly target: number;
  readonly running: number;
  /** Least and most replicas, if their number follows the load. */
  readonly autoscaling: { readonly min: number; readonly max: number } | undefined;
  readonly queued: number;
  readonly ongoing: number;
  /** What has become of the last change. */
  readonly goal: string;
  readonly lastFailure: string | undefined;
}

export interface Share {
  readonly target: string;
  /** From 0 to 1. */
  readonly share: number;
}

export interface EndpointLine {
  readonly name: string;
  readonly perSecond: number;
  /** Targets and their shares, which add up to 1. */
  readonly traffic: readonly Share[];
  /** Targets that get copies, and of which share of the requests. */
  readonly shadows: readonly Share[];
}

/** Something that happened. */
export interface EventLine {
  /** Counts up, so that the page knows which lines it has. */
  readonly number: number;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  readonly kind:
    | 'load'
    | 'eviction'
    | 'unload'
    | 'load-failed'
    | 'replica'
    | 'failure'
    | 'scaling'
    | 'goal'
    | 'warning';
  readonly text: string;
}

/** Requests that failed for the same reason. */
export interface ErrorLine {
  readonly code: string;
  readonly message: string;
  readonly model: string | undefined;
  readonly count: number;
  /** Of the last one: milliseconds since the Unix epoch. */
  readonly at: number;
}

/** All that the page shows, once a second. */
export interface Snapshot {
  readonly at: number;
  readonly version: string;
  readonly isReady: boolean;
  /** Whether models may be loaded and unloaded here. */
  readonly isAdmin: boolean;
  readonly total: Activity & {
    readonly queued: number;
    readonly ongoing: number;
    /** Requests of a call, on average; undefined without calls. */
    readonly batch: number | undefined;
    readonly loads: number;
    readonly evictions: number;
  };
  /** The busiest ones first. */
  readonly models: readonly ModelLine[];
  /** How many models there are, of which `models` may be a part. */
  readonly modelCount: number;
  readonly replicas: readonly ReplicaLine[];
  readonly deployments: readonly DeploymentLine[];
  readonly endpoints: readonly EndpointLine[];
  readonly events: readonly EventLine[];
  readonly errors: readonly ErrorLine[];
}

export interface ValueDescription {
  readonly name: string;
  readonly type: string;
  readonly shape: readonly (number | string)[];
}

/** What the page of a model shows. */
export interface ModelDescription {
  readonly id: string;
  readonly version: number | undefined;
  readonly bytes: number;
  readonly licence: string | undefined;
  readonly whyNotBatched: string | undefined;
  readonly inputs: readonly ValueDescription[];
  readonly outputs: readonly ValueDescription[];
}

/** An input of the form: the bytes of its elements in little-endian order, or the elements. */
export type TrialInput = { readonly type: string; readonly dims: readonly number[] } & (
  | { readonly base64: string }
  | { readonly data: readonly (string | number | boolean)[] }
);

/** A request of the form. */
export interface TrialRequest {
  readonly target: string;
  readonly inputs: Readonly<Record<string, TrialInput>>;
}

export interface TrialOutput {
  readonly type: string;
  readonly dims: readonly number[];
  /** The first elements, as text. */
  readonly data: readonly string[];
  readonly length: number;
  /** The largest elements of the first row, with their indices, if it is a list of numbers. */
  readonly top: readonly { readonly index: number; readonly value: number }[];
}

export interface TrialResult {
  readonly outputs: Readonly<Record<string, TrialOutput>>;
  readonly replica: string;
  readonly batchSize: number;
  readonly timings: {
    readonly queueMs: number;
    readonly loadMs: number;
    readonly runMs: number;
    readonly totalMs: number;
  };
}
