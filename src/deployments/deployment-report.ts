import type { ResolvedDeploymentOptions } from './config/deployment-options.js';
import type { Deployment, DeploymentState } from './deployment.js';
import type { Goal } from './goals.js';

/** A snapshot, but for the goal, whose status changes. */
export interface DeploymentReport {
  readonly name: string;
  readonly state: DeploymentState;
  /** Whether its requests are answered. */
  readonly ready: boolean;
  /** How many replicas there are to be, and how many take requests. */
  readonly targetReplicas: number;
  readonly runningReplicas: number;
  /** Requests that wait for a replica. */
  readonly queued: number;
  /** Requests given to a replica and not finished. */
  readonly ongoing: number;
  /** Why a replica failed, the last time one did. */
  readonly lastFailure: string | undefined;
  /** What the last change is to lead to. */
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
