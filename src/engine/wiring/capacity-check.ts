import { InfermuxError, show } from '../../common/errors.js';
import {
  type DeploymentLoad,
  demandOf,
  type Fit,
  fitOf,
  machineCapacity,
  takenBeside,
  takesMore,
} from '../../deployments/capacity.js';
import type { ResolvedDeploymentOptions } from '../../deployments/config/deployment-options.js';
import type { DeploymentPlan } from '../../deployments/deployment-entries.js';
import type { Log } from '../../observability/log.js';
import type { Overcommit } from '../engine-options.js';

/** Holds what deployments want against what the machine has. */
export class CapacityCheck {
  readonly #overcommit: Overcommit;
  readonly #deployments: () => readonly DeploymentLoad[];
  readonly #log: Log;

  constructor(overcommit: Overcommit, deployments: () => readonly DeploymentLoad[], log: Log) {
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
  refusalOf(
    name: string,
    options: ResolvedDeploymentOptions,
    from: number,
    to: number,
    others: readonly DeploymentLoad[] = this.#deployments(),
  ): InfermuxError | undefined {
    if (!this.isStrict) return undefined;
    const { reason } = this.#fit(name, options, from, to, others);
    if (reason === undefined) return undefined;
    const message = `deployment ${show(name)} does not fit on this machine: ${reason}. Name fewer replicas, declare smaller resources, or set overcommit to 'warn'`;
    return new InfermuxError('FAILED_PRECONDITION', message);
  }

  /** Whether what does not fit is refused. */
  get isStrict(): boolean {
    return this.#overcommit === 'refuse';
  }

  /** Whether the deployment takes more of anything than before. */
  takesMore(name: string, options: ResolvedDeploymentOptions, from: number, to: number): boolean {
    return takesMore(demandOf(name, options, { from, to }, this.#deployments()));
  }

  /**
   * Checks several changes as they will stand beside each other.
   *
   * @param plans of the deployments that come or change. @param leaving names of those that go.
   * @throws InfermuxError as {@link check}.
   */
  checkAll(plans: ReadonlyMap<string, DeploymentPlan>, leaving: readonly string[]): void {
    const present = this.#deployments();
    const end = new Map<string, DeploymentLoad>(present.map((deployment) => [deployment.name, deployment]));
    for (const name of leaving) end.delete(name);
    for (const [name, { resolved: options, to: targetReplicas }] of plans)
      end.set(name, { name, options, targetReplicas, running: end.get(name)?.running ?? [] });
    for (const [name, { resolved, to, changed }] of plans) {
      if (changed?.length === 0) continue;
      const from = present.find((deployment) => deployment.name === name)?.targetReplicas ?? 0;
      const refusal = this.refusalOf(name, resolved, from, to, [...end.values()]);
      if (refusal !== undefined) throw refusal;
    }
  }

  /** How many of the replicas that autoscaling wants the deployment may have. */
  fitting(name: string, options: ResolvedDeploymentOptions, from: number, to: number): number {
    if (!this.isStrict || to <= from) return to;
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
    if (this.isStrict) return;
    const { reason } = this.#fit(name, options, from, to);
    if (reason === undefined) return;
    this.#log.write('warn', { deployment: name, replicas: to, reason }, 'more replicas than this machine can carry');
  }

  /** @param others beside which it is to fit; its own entry does not count. */
  #fit(
    name: string,
    options: ResolvedDeploymentOptions,
    from: number,
    to: number,
    others: readonly DeploymentLoad[] = this.#deployments(),
  ): Fit {
    const demand = demandOf(name, options, { from, to }, this.#deployments());
    return fitOf(demand, takenBeside(name, others), machineCapacity());
  }
}
