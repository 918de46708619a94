import { InfermuxError, show, showNames } from '../common/errors.js';
import { checkSavedDeployment, type SavedDeployment, savedForm } from './checkpoint/saved-deployments.js';
import { checkDeploymentName } from './config/deployment-name.js';
import type { DeploymentOptions, ResolvedDeploymentOptions } from './config/deployment-options.js';
import type { Deployment } from './deployment.js';
import type { DeploymentQueue } from './deployment-environment.js';
import type { DeploymentsEnvironment } from './deployments-environment.js';
import type { Goal } from './goals.js';

/** A deployment with the options that it was asked for. */
export interface Entry<Q extends DeploymentQueue> {
  readonly deployment: Deployment<Q>;
  /** As in {@link SavedDeployment}. */
  readonly declared: DeploymentOptions | null;
  /** The options as the caller gave them, without defaults. */
  given: DeploymentOptions;
  /** Id of the goal that a checkpoint has. */
  goalId: string | undefined;
}

/** What a deployment is begun with. */
export interface Beginning {
  readonly given: DeploymentOptions;
  readonly resolved: ResolvedDeploymentOptions;
  readonly declared: DeploymentOptions | null;
  readonly goalId: string | undefined;
}

/** A deployment that is being deleted. */
export interface Ending<Q extends DeploymentQueue> {
  readonly deployment: Deployment<Q>;
  /** Resolves when the deletion ends. */
  readonly gone: Promise<void>;
}

/** What becomes of a deployment that exists. */
export type ExistingChange<Q extends DeploymentQueue> = (
  entry: Entry<Q>,
  given: DeploymentOptions,
  resolved: ResolvedDeploymentOptions,
) => Promise<Goal>;

/** What a change of a deployment would do. */
export interface DeploymentPlan {
  readonly resolved: ResolvedDeploymentOptions;
  /** Replicas that there would be. */
  readonly to: number;
  /** Names of the options that change; undefined for a new deployment. */
  readonly changed: readonly string[] | undefined;
  /** Of its last change; undefined for a new deployment. */
  readonly goal: Goal | undefined;
}

/** The deployments that there are, that end, and that were deleted, and their form in the checkpoint. */
export class DeploymentEntries<Q extends DeploymentQueue> {
  readonly #environment: DeploymentsEnvironment<Q>;
  readonly #entries = new Map<string, Entry<Q>>();
  readonly #ending = new Map<string, Ending<Q>>();
  /** Deleted deployments with abandoned threads; each promise resolves when the threads are gone. */
  readonly #lingering = new Set<Promise<void>>();
  /** Declared deployments that were deleted, for the checkpoint. */
  readonly #deleted = new Map<string, DeploymentOptions>();

  constructor(environment: DeploymentsEnvironment<Q>) {
    this.#environment = environment;
  }

  /** Those that take requests, by name. */
  get present(): ReadonlyMap<string, Entry<Q>> {
    return this.#entries;
  }

  /** All deployments, including those that are being deleted. */
  get all(): Deployment<Q>[] {
    return [...this.#entries.values(), ...this.#ending.values()].map(({ deployment }) => deployment);
  }

  find(name: string): Entry<Q> | undefined {
    return this.#entries.get(name);
  }

  ending(name: string): Ending<Q> | undefined {
    return this.#ending.get(name);
  }

  /** The options that the program declared of a deployment that was deleted; null for others. */
  declaredOf(name: string): DeploymentOptions | null {
    return this.#deleted.get(name) ?? null;
  }

  /** @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` with the known names. */
  require(name: string): Entry<Q> {
    const entry = this.#entries.get(name);
    if (entry !== undefined) return entry;
    checkDeploymentName(name);
    const message = `no deployment ${show(name)}; there are: ${showNames([...this.#entries.keys()])}`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  begin(name: string, { given, resolved, declared, goalId }: Beginning): Deployment<Q> {
    const deployment = this.#environment.create(name, resolved, goalId);
    this.#entries.set(name, { deployment, declared, given, goalId });
    this.#environment.changed();
    this.#deleted.delete(name);
    return deployment;
  }

  /** The deployment takes no more requests, and ends. @param stop ends it. */
  end(name: string, stop: (deployment: Deployment<Q>) => Goal): Goal {
    const { deployment, declared } = this.require(name);
    this.#entries.delete(name);
    this.#environment.changed();
    this.#environment.deleted(name);
    if (declared !== null) this.#deleted.set(name, declared);
    const goal = stop(deployment);
    const end = () => {
      this.#ending.delete(name);
      const left = deployment.untilGone().finally(() => this.#lingering.delete(left));
      this.#lingering.add(left);
    };
    this.#ending.set(name, { deployment, gone: goal.done.then(end, end) });
    return goal;
  }

  /** A declared deployment was deleted before. */
  deletedBefore(name: string, declared: DeploymentOptions): void {
    this.#deleted.set(name, declared);
  }

  /** Resolves when no thread of a deleted deployment is left. */
  async untilGone(): Promise<void> {
    await Promise.all(this.#lingering);
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` for what the checkpoint cannot carry, if there is one. */
  checkSavable(name: string, saved: SavedDeployment | undefined): void {
    if (this.#environment.isSaved) checkSavedDeployment(`deployment ${show(name)}`, saved);
  }

  /** Writes the wanted deployments. @throws InfermuxError `FAILED_PRECONDITION` for what cannot be saved or written. */
  async save(changed: Readonly<Record<string, SavedDeployment | undefined>>): Promise<void> {
    if (!this.#environment.isSaved) return;
    for (const [name, saved] of Object.entries(changed)) this.checkSavable(name, saved);
    const all = new Map<string, SavedDeployment | undefined>();
    for (const [name, declared] of this.#deleted) all.set(name, { declared, options: null });
    for (const [name, { declared, given: options, goalId: goal }] of this.#entries)
      all.set(name, { declared, options, goal });
    for (const [name, saved] of Object.entries(changed)) all.set(name, saved);
    await this.#environment.save(savedForm(all));
  }
}
