/** What the metrics read of the engine when they are scraped, so that a request writes no gauge. */
export interface MetricsSource {
  deployments(): Iterable<{
    readonly name: string;
    readonly queued: number;
    readonly targetReplicas: number;
    readonly runningReplicas: number;
    /** Whether an express replica takes requests; the running replicas are without it. */
    readonly express: boolean;
  }>;
  /** All replicas, express replicas included. */
  replicas(): Iterable<{
    readonly id: string;
    readonly isRunning: boolean;
    readonly ongoing: number;
    /** Number of sessions that it has or is loading. */
    readonly models: number;
  }>;
  /** How many requests wait for each model that was asked for. */
  queuedModels(): Iterable<readonly [model: string, queued: number]>;
  /** Bytes of shared memory for large tensors. */
  tensorMemory(): { readonly usedBytes: number; readonly freeBytes: number };
  endpoints(): Iterable<{
    readonly name: string;
    /** By target. */
    readonly shadow: Readonly<Record<string, unknown>>;
  }>;
  /** Whether a model has this id. */
  hasModel(id: string): boolean;
  /** The sessions of all replicas. There may be very many. */
  sessions(): Iterable<ResidentSession>;
}

export interface ResidentSession {
  readonly replica: string;
  /** Id of the model. */
  readonly model: string;
  /** The model's format; `handler` for a handler's own model. */
  readonly type: string;
  /** Bytes of the model's file. */
  readonly bytes: number;
  /** False while it is loading. */
  readonly isLoaded: boolean;
}
