import type { SavedDeployments } from './checkpoint/saved-deployments.js';
import type { ResolvedDeploymentOptions } from './config/deployment-options.js';
import type { Deployment } from './deployment.js';
import type { DeploymentQueue } from './deployment-environment.js';
import type { GoalReport } from './goal-register.js';

/** The surroundings of the deployments. */
export interface DeploymentsEnvironment<Q extends DeploymentQueue> {
  /** Makes a deployment without starting it. */
  create(name: string, options: ResolvedDeploymentOptions, goalId: string | undefined): Deployment<Q>;
  /** A deployment changed, came or went: its name may now mean another one, or none. */
  changed(): void;
  /** Requests of the deployment are refused from now on. */
  deleted(name: string): void;
  /** Called before a deployment gets other replicas than it has. @throws InfermuxError when they do not fit. */
  checkCapacity(name: string, options: ResolvedDeploymentOptions, from: number, to: number): void;
  /** A change has a goal, or a goal was decided. */
  goal(goal: GoalReport): void;
  /** The number of replicas of a deployment whose options name none. */
  defaultReplicas(name: string): number;
  /** Writes the wanted deployments to the checkpoint, before they are acted on. */
  save(deployments: SavedDeployments): Promise<void>;
  /** Whether {@link save} keeps anything. */
  readonly isSaved: boolean;
  /** Keeps the process alive while the work goes on. */
  during<T>(work: () => Promise<T>): Promise<T>;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
}
