import { messageOf, show } from '../common/errors.js';
import { isSameData } from '../common/values/realm.js';
import { copyOptions, restoreDeployments, type SavedDeployments } from './checkpoint/saved-deployments.js';
import type { DeploymentOptions, ResolvedDeploymentOptions } from './config/deployment-options.js';
import { resolveNamed, resolveSaved } from './config/resolve-named.js';
import type { RouterLoader } from './config/router-loader.js';
import type { DeploymentEntries, Entry } from './deployment-entries.js';
import type { DeploymentQueue } from './deployment-environment.js';
import type { DeploymentsEnvironment } from './deployments-environment.js';
import type { Goals } from './goal-register.js';

/** Begins the deployments that the program declares, and those of a checkpoint. */
export class DeclaredStart<Q extends DeploymentQueue> {
  readonly #entries: DeploymentEntries<Q>;
  readonly #environment: DeploymentsEnvironment<Q>;
  readonly #goals: Goals;
  readonly #routers: RouterLoader;

  constructor(
    entries: DeploymentEntries<Q>,
    environment: DeploymentsEnvironment<Q>,
    goals: Goals,
    routers: RouterLoader,
  ) {
    this.#routers = routers;
    this.#entries = entries;
    this.#environment = environment;
    this.#goals = goals;
  }

  /**
   * Resolves when they have started. Saved options can be corrected once the engine runs, declared options only in the
   * program: so only what is wrong with those is an error.
   *
   * @returns what a checkpoint is to have of them.
   * @throws InfermuxError `REPLICA_FAILED` when no replica of a declared deployment starts, `FAILED_PRECONDITION` when it
   *   does not fit.
   */
  async begin(
    declared: Readonly<Record<string, DeploymentOptions>>,
    saved: SavedDeployments,
  ): Promise<SavedDeployments> {
    const { log } = this.#environment;
    const copies = Object.entries(declared).map(([name, options]) => [name, copyOptions(show(name), options)] as const);
    const wanted = restoreDeployments(Object.fromEntries(copies), saved, (name, what) =>
      log('info', { deployment: name }, what),
    );
    for (const [name, { declared: own, options: given, goal: goalId }] of Object.entries(wanted)) {
      if (given === null) {
        if (own !== null) this.#entries.deletedBefore(name, own);
        continue;
      }
      const resolved = await this.#resolve(name, given, own);
      const deployment = this.#entries.begin(name, { given, resolved, declared: own, goalId });
      this.#goals.add(name, deployment.start());
    }
    await Promise.all([...this.#entries.present].map(([name, entry]) => this.#untilStarted(name, entry)));
    return wanted;
  }

  async #resolve(
    name: string,
    given: DeploymentOptions,
    declared: DeploymentOptions | null,
  ): Promise<ResolvedDeploymentOptions> {
    const { defaultReplicas, checkCapacity, log } = this.#environment;
    const fits = (resolved: ResolvedDeploymentOptions) => checkCapacity(name, resolved, 0, resolved.replicas);
    if (isSameData(given, declared)) {
      const resolved = await resolveNamed(name, given, defaultReplicas(name), this.#routers);
      fits(resolved);
      return resolved;
    }
    const warn = (reason: string) =>
      log('warn', { deployment: name, reason }, 'the router of a checkpoint cannot be had');
    const resolved = await resolveSaved(name, given, defaultReplicas(name), this.#routers, warn);
    try {
      fits(resolved);
    } catch (error) {
      const reason = messageOf(error);
      log('warn', { deployment: name, reason }, 'a deployment from the checkpoint does not fit');
    }
    return resolved;
  }

  async #untilStarted(name: string, { deployment, declared, given }: Entry<Q>): Promise<void> {
    try {
      await deployment.untilStarted();
    } catch (error) {
      if (isSameData(given, declared)) throw error;
      const reason = messageOf(error);
      this.#environment.log('warn', { deployment: name, reason }, 'a deployment from the checkpoint does not start');
    }
  }
}
