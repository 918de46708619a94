import { clone } from '../common/values/clone.js';
import { NO_MODEL, nameOfOwn } from '../contracts/handler.js';
import { isWideKey, type SessionWeights } from '../contracts/model-reference.js';
import type { RoutingStats } from '../contracts/request-router.js';
import { allPlacesOf, reportOf } from '../deployments/deployment-report.js';
import type { DeploymentState } from '../deployments/deployment-state.js';
import type { ModelCatalog } from '../models/model-catalog.js';
import type { ReplicaPlace } from '../replicas/replica-pool.js';
import { isFinal, type ReplicaState } from '../replicas/replica-state.js';
import type { HarmfulModel } from '../routing/bars/run-bars.js';
import type { ReplicaWork } from '../routing/batches/given-dispatches.js';
import type { EngineDeployment } from './requests/targets.js';

export type { ReplicaState };

/** A snapshot of the engine. It does not change later. */
export interface EngineStatus {
  readonly state: EngineState;
  /** Whether requests are answered: each deployment that should have replicas has a running one. */
  readonly ready: boolean;
  /** Pending requests of all deployments. */
  readonly queued: number;
  readonly deployments: Readonly<Record<string, DeploymentStatus>>;
  readonly replicas: readonly ReplicaStatus[];
  readonly models: readonly ModelStatus[];
  /** Where compiled models with shared weights are stored, and the maximum bytes of the store. */
  readonly weightStore: { readonly directory: string; readonly maxBytes: number };
}

export type EngineState = 'running' | 'closing' | 'closed';

export interface DeploymentStatus {
  readonly state: DeploymentState;
  readonly ready: boolean;
  readonly targetReplicas: number;
  /** Without the express replica. */
  readonly runningReplicas: number;
  /** Whether the deployment has an express replica: an additional thread for short runs. */
  readonly express: boolean;
  /** Requests that wait for a replica of the deployment. */
  readonly queued: number;
  /** Why a replica last failed; undefined when none has. */
  readonly lastFailure: string | undefined;
  /** Models whose runs have killed replicas. */
  readonly harmful: readonly HarmfulModel[];
}

export interface ReplicaStatus {
  readonly id: string;
  readonly deployment: string;
  /** Whether it is the deployment's express replica, which does not count toward the target number. */
  readonly express: boolean;
  readonly state: ReplicaState;
  readonly labels: Readonly<Record<string, string>>;
  /** Id of the replica's process; undefined for a thread. */
  readonly pid: number | undefined;
  /** Requests sent to the replica and not finished. */
  readonly ongoing: number;
  /** Its current work: the first item runs or waits for a load; the others were sent in advance. */
  readonly work: readonly ReplicaWork[];
  /** Requests answered with outputs since the replica last started. */
  readonly completed: number;
  /** Requests answered with an error since the replica last started. */
  readonly failed: number;
  readonly models: readonly SessionStatus[];
  /** Bytes of the files of the models that the replica has loaded. */
  readonly modelBytes: number;
  readonly restarts: number;
  /** The replica's statistics, as routers see them; undefined while it accepts no requests. */
  readonly routingStats: RoutingStats | undefined;
}

/** A session that a replica has or is loading. */
export interface SessionStatus {
  readonly id: string;
  readonly version: number;
  readonly state: 'loading' | 'loaded';
  /**
   * Whether it has several threads, for requests that run alone or with few others. The model can have a session with
   * one thread in the same replica.
   */
  readonly wide: boolean;
  /** Whether its weights are shared with other sessions; undefined while it is loading. */
  readonly weights: SessionWeights | undefined;
}

export interface ModelStatus {
  readonly id: string;
  readonly version: number;
  readonly bytes: number;
  /** Requests that wait for it. */
  readonly queued: number;
  /** Requests for it that were refused or answered with an error. */
  readonly failed: number;
  /** Ids of the replicas that have the model or are loading it, without express replicas. */
  readonly replicas: readonly string[];
}

/** Reads the status as it is now. */
export function readStatus(
  state: EngineState,
  deployments: readonly EngineDeployment[],
  catalog: ModelCatalog,
  weightStore: EngineStatus['weightStore'],
): EngineStatus {
  const places = deployments.flatMap((deployment) => deployment.places);
  const asked = countsOf(deployments);
  return {
    state,
    weightStore: { ...weightStore },
    ready: areReady(state, deployments),
    queued: deployments.reduce((sum, { queue }) => sum + queue.queued, 0),
    deployments: Object.fromEntries(deployments.map((deployment) => [deployment.name, deploymentStatus(deployment)])),
    replicas: deployments.flatMap((deployment) =>
      allPlacesOf(deployment).map((place) => replicaStatus(deployment, place, catalog)),
    ),
    models: catalog.models.map(({ id, version, key, bytes }) => ({
      id,
      version,
      bytes,
      ...(asked.get(key) ?? { queued: 0, failed: 0 }),
      replicas: places.filter(({ replica }) => replica?.models.has(key)).map((place) => place.id),
    })),
  };
}

/** What waits for each model and has failed, in all deployments, by the model's key. */
function countsOf(deployments: readonly EngineDeployment[]) {
  const counts = new Map<string, Pick<ModelStatus, 'queued' | 'failed'>>();
  for (const { queue } of deployments) {
    for (const { model, queued, failed } of queue.modelsAsked()) {
      const before = counts.get(model.key) ?? { queued: 0, failed: 0 };
      counts.set(model.key, { queued: before.queued + queued, failed: before.failed + failed });
    }
  }
  return counts;
}

/** Whether each deployment answers requests. One that is being deleted, or is to have no replicas, does not count. */
export function areReady(state: EngineState, deployments: readonly EngineDeployment[]): boolean {
  const isIdle = (deployment: EngineDeployment) => deployment.state === 'deleting' || deployment.isEmpty;
  return state === 'running' && deployments.every((deployment) => deployment.isReady || isIdle(deployment));
}

function deploymentStatus(deployment: EngineDeployment): DeploymentStatus {
  const { state, ready, targetReplicas, runningReplicas, express, queued, lastFailure } = reportOf(deployment);
  const { harmful } = deployment.queue.bars;
  return { state, ready, targetReplicas, runningReplicas, express, queued, lastFailure, harmful };
}

function replicaStatus({ name, queue }: EngineDeployment, place: ReplicaPlace, catalog: ModelCatalog): ReplicaStatus {
  const { id, replica, restarts, settings } = place;
  // A replica that has ended has neither models nor work, and its counters may belong to another one by now.
  const counters = replica === undefined || isFinal(replica.state) ? undefined : replica.counters;
  return {
    id,
    deployment: name,
    express: settings.isExpress,
    state: replica?.state ?? 'starting',
    labels: { ...settings.labels },
    pid: replica?.pid,
    ongoing: counters?.ongoing ?? 0,
    work: counters === undefined || replica === undefined ? [] : queue.given.workOf(replica),
    completed: counters?.completed ?? 0,
    failed: counters?.failed ?? 0,
    models: [...(replica?.models ?? [])]
      .filter(([key]) => key !== NO_MODEL)
      .map(([key, modelState]) => {
        const { id: modelId, version } = catalog.byKey(key) ?? { id: nameOfOwn(key), version: 1 };
        return { id: modelId, version, state: modelState, wide: isWideKey(key), weights: replica?.weights.of(key) };
      }),
    modelBytes: counters?.bytes ?? 0,
    restarts,
    routingStats: replica && clone(queue.routingStats(replica)),
  };
}
