import { InfermuxError, show } from '../../common/errors.js';
import { demandOf, type Fit, fitOf, machineCapacity, takenBeside } from '../../deployments/capacity.js';
import type { ResolvedDeploymentOptions } from '../../deployments/config/deployment-options.js';
import type { Log } from '../../observability/log.js';
import type { Overcommit } from '../engine-options.js';
import type { EngineDeployment } from '../requests/targets.js';

/** Holds what deployments want against what the machine has. */
export class CapacityCheck {
  readonly #overcommit: Overcommit;
  readonly #deployments: () => readonly EngineDeployment[];
  readonly #log: Log;

  constructor(overcommit: Overcommit, deployments: () => readonly EngineDeployment[], log: Log) {
    this.#overcommit = overcommit;
    this.#deployments = deployments;
    this.#log = log;
  }

  /**
   * Call it before a deployment gets more replicas, or others.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when they do not fit, and that is to be refused.
   */
  check(name: string, options: ResolvedDeploymentOptions, from: number, to: number): void {
    const refusal = this.refusalOf(name, options, from, to);
    if (refusal !== undefined) throw refusal;
    // What has more replicas is told of when it has them.
    if (to <= from) this.#warn(name, options, from, to);
  }

  /** Why the replicas may not be started: they do not fit, and that is to be refused. */
  refusalOf(name: string, options: ResolvedDeploymentOptions, from: number, to: number): InfermuxError | undefined {
    if (this.#overcommit !== 'refuse') return undefined;
    const { reason } = this.#fit(name, options, from, to);
    if (reason === undefined) return undefined;
    const message = `deployment ${show(name)} does not fit on this machine: ${reason}. Name fewer replicas, declare smaller resources, or set overcommit to 'warn'`;
    return new InfermuxError('FAILED_PRECONDITION', message);
  }

  /** How many of the replicas that autoscaling wants the deployment may have. */
  fitting(name: string, options: ResolvedDeploymentOptions, from: number, to: number): number {
    if (this.#overcommit !== 'refuse' || to <= from) return to;
    const { fits, reason } = this.#fit(name, options, from, to);
    if (reason !== undefined)
      this.#log.write('warn', { deployment: name, wanted: to, reason }, 'autoscaling wants more than fits');
    return Math.max(from, fits);
  }

  /** Warns of a deployment that has more replicas than fit. */
  scaled(name: string, options: ResolvedDeploymentOptions, from: number, to: number): void {
    if (to > from) this.#warn(name, options, from, to);
  }

  #warn(name: string, options: ResolvedDeploymentOptions, from: number, to: number): void {
    if (this.#overcommit === 'refuse') return;
    const { reason } = this.#fit(name, options, from, to);
    if (reason === undefined) return;
    this.#log.write('warn', { deployment: name, replicas: to, reason }, 'more replicas than this machine can carry');
  }

  #fit(name: string, options: ResolvedDeploymentOptions, from: number, to: number): Fit {
    const all = this.#deployments();
    return fitOf(demandOf(name, options, { from, to }, all), takenBeside(name, all), machineCapacity());
  }
}
