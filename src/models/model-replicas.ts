import type { RegisteredModel } from './registered-model.js';

/** A running replica, as the model manager sees it. */
export interface ModelReplica {
  readonly id: string;
  readonly deployment: string;
  /** Sessions that it has or is loading, by model key. */
  readonly models: ReadonlyMap<string, 'loading' | 'loaded'>;
  /** Whether a load of the model was ordered and has not ended. */
  isTrying(modelKey: string): boolean;
  /** Requests that were given to it and are not finished. */
  readonly ongoing: number;
  /**
   * Resolves when the replica has the session; at once if it has it already.
   *
   * @throws InfermuxError `MODEL_LOAD_FAILED`, `FAILED_PRECONDITION` when there is no slot to pin it, `REPLICA_FAILED`.
   */
  load(model: RegisteredModel, how: ReplicaLoad): Promise<void>;
  /** Releases the session after its last use. Resolves with its bytes; 0 when the replica does not have it. */
  unload(key: string, reason: 'unloaded' | 'replaced'): Promise<number>;
}

export interface ReplicaLoad {
  /** Never evict it. */
  readonly pin: boolean;
  /** Key of a session that this one replaces. It counts as evicted, so that no other is evicted to make room. */
  readonly replaces?: string | undefined;
  /** Whether it is unloaded again at once: nothing is evicted for its place where that can be helped. */
  readonly isTrial?: boolean;
}

/** The replicas of all deployments, as the model manager sees them. */
export interface ModelReplicas {
  /** The deployment of loads that name none: `default`, or if its target is 0 the first with a target above 0. */
  defaultDeployment(): string;
  /**
   * The target number of replicas of the deployment.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` for a deployment that does not exist.
   */
  wanted(deployment: string): number;
  /**
   * The running replicas of all deployments, those of the default deployment first. Express replicas are none of them:
   * they get models by requests alone, and a model that only they have is in no replica.
   */
  running(): ModelReplica[];
  /** All that may have sessions: {@link running}, and the express replicas that run. */
  withSessions(): ModelReplica[];
  /**
   * Calls `load`, which orders a load of the model on the replica, when the load may begin: one replica at a time tries
   * a model that has never loaded in the deployment.
   *
   * @throws InfermuxError `MODEL_LOAD_FAILED` when the model must not be loaded now, because its load ended a thread or
   *   took too long a short while ago; what `load` throws.
   */
  loadInTurn(model: RegisteredModel, replica: ModelReplica, load: () => Promise<void>): Promise<void>;
  /** Whether requests for the model wait for a replica. */
  isWaitedFor(key: string): boolean;
  /** Resolves when the model has no accepted requests. Call it when requests can no longer name the model. */
  untilUnused(key: string): Promise<void>;
  /** Drops what is kept for a model that no request will name again. */
  forget(key: string): void;
}
