import type { InfermuxError } from '../common/errors.js';
import type { RegisteredModel } from './registered-model.js';

/** A running replica, as the model manager needs it. */
export interface ModelReplica {
  readonly id: string;
  readonly deployment: string;
  /** Sessions it has, or is loading, by model key. */
  readonly models: ReadonlyMap<string, 'loading' | 'loaded'>;
  /** Requests given to it and not finished. */
  readonly ongoing: number;
  /**
   * Resolves when it has the session; at once if it has it already.
   *
   * @throws InfermuxError `MODEL_LOAD_FAILED`, `FAILED_PRECONDITION` when it has no place to pin it, `REPLICA_FAILED`.
   */
  load(model: RegisteredModel, how: ReplicaLoad): Promise<void>;
  /** Resolves with the bytes of the session when it is gone, after its last user; 0 when it was not there. */
  unload(key: string, reason: 'unloaded' | 'replaced'): Promise<number>;
}

export interface ReplicaLoad {
  /** Never evict it. */
  readonly pin: boolean;
  /** Key of a session that leaves when this one is there: it counts as gone, so that nothing is evicted for want of its place. */
  readonly replaces?: string | undefined;
}

/** What the model manager needs of the rest of the engine. */
export interface ModelReplicas {
  /** The one that is meant where none is named: `default`, or where that is to have no replicas the first that is to. */
  defaultDeployment(): string;
  /**
   * How many replicas the deployment is to have.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` for one that is not there.
   */
  wanted(deployment: string): number;
  /** Those of all deployments, the default one's first. */
  running(): ModelReplica[];
  /** Why the model is not to be loaded in that deployment now, if so: its load has ended a thread a short while ago. */
  loadRefusal(model: RegisteredModel, deployment: string): InfermuxError | undefined;
  /** Resolves when no accepted request is for the model. To be called when nobody can ask for it any more. */
  untilUnused(key: string): Promise<void>;
  /** Nobody will ask for the model again. */
  forget(key: string): void;
}
