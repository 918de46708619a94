import type { ResolvedDeploymentOptions } from './config/deployment-options.js';
import type { Deployment, DeploymentState } from './deployment.js';
import type { Goal } from './goals.js';

/** A snapshot of a deployment; only the status of its goal still changes. */
export interface DeploymentReport {
  readonly name: string;
  readonly state: DeploymentState;
  /** Whether requests are answered. */
  readonly ready: boolean;
  /** The target number of replicas. */
  readonly targetReplicas: number;
  /** Number of replicas that take requests. */
  readonly runningReplicas: number;
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

export function reportOf(deployment: Deployment): DeploymentReport {
  const { name, state, isReady: ready, targetReplicas, running, queue, lastFailure, goal, options } = deployment;
  return {
    ...{ name, state, ready, targetReplicas, runningReplicas: running.length, queued: queue.queued },
    ongoing: running.reduce((sum, { ongoing }) => sum + ongoing, 0),
    lastFailure: lastFailure?.message,
    goal,
    options,
  };
}
