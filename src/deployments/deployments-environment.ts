import type { SavedDeployments } from './checkpoint/saved-deployments.js';
import type { ResolvedDeploymentOptions } from './config/deployment-options.js';
import type { Deployment } from './deployment.js';
import type { DeploymentQueue } from './deployment-environment.js';

/** The surroundings of the deployments. */
export interface DeploymentsEnvironment<Q extends DeploymentQueue> {
  /** Makes a deployment without starting it. */
  create(name: string, options: ResolvedDeploymentOptions): Deployment<Q>;
  /** A deployment changed, came or went: its name may now mean another one, or none. */
  changed(): void;
  /** Requests of the deployment are refused from now on. */
  deleted(name: string): void;
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
