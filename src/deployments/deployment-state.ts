import type { GoalStatus } from './goals.js';

/**
 * State of a deployment. `healthy`: its replicas match its options. `updating`: a change is in progress. `unhealthy`:
 * its goal failed, or replicas fail. The express replica is not considered.
 */
export type DeploymentState = 'updating' | 'healthy' | 'unhealthy' | 'deleting';

/** What the state of a deployment follows from. */
export interface DeploymentFacts {
  readonly isDeleting: boolean;
  /** Whether the replicas match the target. */
  readonly isReached: boolean;
  readonly goal: GoalStatus;
  readonly places: readonly {
    readonly replica: { readonly state: string } | undefined;
    readonly failuresInRow: number;
  }[];
}

export function deploymentState({ isDeleting, isReached, goal, places }: DeploymentFacts): DeploymentState {
  if (isDeleting) return 'deleting';
  if (isReached) return 'healthy';
  const isFailing = places.some(({ replica, failuresInRow }) => failuresInRow > 0 && replica?.state !== 'running');
  return goal === 'failed' || isFailing ? 'unhealthy' : 'updating';
}
