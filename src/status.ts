import type { ModelCatalog } from './models/model-catalog.js';
import type { ReplicaPlace } from './replicas/replica-pool.js';
import { isFinal, type ReplicaState } from './replicas/replica-state.js';

/** The one deployment there is. */
export const DEPLOYMENT = 'default';

/** A snapshot; nothing in it changes later. */
export interface EngineStatus {
  readonly state: EngineState;
  /** Requests that wait for a replica. */
  readonly queued: number;
  readonly deployments: Readonly<Record<string, DeploymentStatus>>;
  readonly replicas: readonly ReplicaStatus[];
  readonly models: readonly ModelStatus[];
}

export type EngineState = 'running' | 'closing' | 'closed';

export interface DeploymentStatus {
  readonly targetReplicas: number;
  readonly runningReplicas: number;
}

export interface ReplicaStatus {
  readonly id: string;
  readonly deployment: string;
  readonly state: ReplicaState;
  /** Requests given to it and not finished. */
  readonly ongoing: number;
  /** Requests answered with outputs, and with an error, since it last started. */
  readonly completed: number;
  readonly failed: number;
  readonly models: readonly { readonly id: string; readonly version: number; readonly state: 'loading' | 'loaded' }[];
  /** Bytes of model files whose sessions it has. */
  readonly modelBytes: number;
  readonly restarts: number;
}

export interface ModelStatus {
  readonly id: string;
  readonly version: number;
  readonly bytes: number;
  /** Replicas that have it or are loading it. */
  readonly replicas: readonly string[];
}

/** The status as it is now. */
export function readStatus(
  state: EngineState,
  queued: number,
  places: readonly ReplicaPlace[],
  catalog: ModelCatalog,
): EngineStatus {
  const replicas = places.map((place) => replicaStatus(place, catalog));
  const runningReplicas = replicas.filter((replica) => replica.state === 'running').length;
  return {
    state,
    queued,
    deployments: { [DEPLOYMENT]: { targetReplicas: places.length, runningReplicas } },
    replicas,
    models: catalog.models.map(({ id, version, key, bytes }) => ({
      id,
      version,
      bytes,
      replicas: places.filter(({ replica }) => replica?.models.has(key)).map((place) => place.id),
    })),
  };
}

function replicaStatus({ id, replica, restarts }: ReplicaPlace, catalog: ModelCatalog): ReplicaStatus {
  // What is over has neither models nor work; its counters may be another's by now.
  const counters = replica === undefined || isFinal(replica.state) ? undefined : replica.counters;
  return {
    id,
    deployment: DEPLOYMENT,
    state: replica?.state ?? 'starting',
    ongoing: counters?.ongoing ?? 0,
    completed: counters?.completed ?? 0,
    failed: counters?.failed ?? 0,
    models: [...(replica?.models ?? [])].map(([key, state]) => {
      const { id: modelId, version } = catalog.byKey(key) ?? { id: key, version: 1 };
      return { id: modelId, version, state };
    }),
    modelBytes: counters?.bytes ?? 0,
    restarts,
  };
}
