import type { ReplicaPlace } from '../replicas/replica-pool.js';
import type { ResolvedDeploymentOptions } from './config/deployment-options.js';
import type { Deployment } from './deployment.js';
import type { DeploymentState } from './deployment-state.js';
import type { Goal } from './goals.js';

/** A snapshot of a deployment; only the status of its goal still changes. */
export interface DeploymentReport {
  readonly name: string;
  readonly state: DeploymentState;
  /** Whether requests are answered. */
  readonly ready: boolean;
  /** The target number of replicas. */
  readonly targetReplicas: number;
  /** Number of running replicas, without the express replica. */
  readonly runningReplicas: number;
  /** Whether the deployment has an express replica: an additional thread for short runs. */
  readonly express: boolean;
  /** Number of pending requests. */
  readonly queued: number;
  /** Number of ongoing requests. */
  readonly ongoing: number;
  /** Why a replica last failed. */
  readonly lastFailure: string | undefined;
  /** The goal of the last change. */
  readonly goal: Goal;
  readonly options: ResolvedDeploymentOptions;
}

/** Returns the places of the deployment's replicas, with that of the express replica at the end. */
export function allPlacesOf({ places, express }: Pick<Deployment, 'places' | 'express'>): readonly ReplicaPlace[] {
  return express.place === undefined ? places : [...places, express.place];
}

export function reportOf(deployment: Deployment): DeploymentReport {
  const {
    name,
    state,
    isReady: ready,
    targetReplicas,
    running,
    queue,
    ongoing,
    lastFailure,
    goal,
    options,
  } = deployment;
  return {
    ...{ name, state, ready, targetReplicas, runningReplicas: running.length, queued: queue.queued },
    ...{ express: deployment.express.running !== undefined, ongoing },
    lastFailure: lastFailure?.message,
    goal,
    options,
  };
}
