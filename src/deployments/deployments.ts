import { randomUUID } from 'node:crypto';
import { checkOptions, isBoolean, isObject } from '../common/checks.js';
import { cloneError, InfermuxError, readingInput, show } from '../common/errors.js';
import { KeyedTasks } from '../common/tasks/keyed-tasks.js';
import { SerialQueue } from '../common/tasks/serial-queue.js';
import { copyOptions, type SavedDeployment, type SavedDeployments } from './checkpoint/saved-deployments.js';
import { changedOptions, checkHandlerStays, targetOf } from './config/config-change.js';
import { checkDeploymentName } from './config/deployment-name.js';
import type { DeploymentOptions, ResolvedDeploymentOptions } from './config/deployment-options.js';
import { resolveNamed } from './config/resolve-named.js';
import { RouterLoader } from './config/router-loader.js';
import { DeclaredStart } from './declared-start.js';
import type { Deployment } from './deployment.js';
import { DeploymentEntries, type DeploymentPlan, type Entry, type ExistingChange } from './deployment-entries.js';
import type { DeploymentQueue } from './deployment-environment.js';
import { type DeploymentReport, reportOf } from './deployment-report.js';
import type { DeploymentsEnvironment } from './deployments-environment.js';
import { Goals } from './goal-register.js';
import { type Goal, reachedGoal } from './goals.js';

export interface DeleteOptions {
  /**
   * Whether to reject accepted requests at once, with `FAILED_PRECONDITION`. Default false: they are answered first.
   */
  readonly force?: boolean | undefined;
  /** Whether deleting a deployment that does not exist succeeds. Default false: it fails with `FAILED_PRECONDITION`. */
  readonly missingOk?: boolean | undefined;
}

/** The deployments of an engine, `engine.deployments`: creates, changes and deletes them. */
export class Deployments<Q extends DeploymentQueue = DeploymentQueue> {
  readonly #environment: DeploymentsEnvironment<Q>;
  readonly #entries: DeploymentEntries<Q>;
  readonly #turns = new SerialQueue();
  /** The latest change of each deployment. */
  readonly #latest = new KeyedTasks();
  readonly #routers = new RouterLoader();
  /** The goals of changes. @readonly */
  readonly goals: Goals;
  #closed: InfermuxError | undefined;

  /** @internal */
  constructor(environment: DeploymentsEnvironment<Q>) {
    this.#environment = environment;
    this.#entries = new DeploymentEntries(environment);
    this.goals = new Goals((goal) => environment.goal(goal));
  }

  /**
   * Creates and starts a deployment. An existing deployment with equal options stays as it is. If a deployment of the
   * same name is being deleted, it waits for that.
   *
   * @returns the goal, as soon as the deployment is saved in the checkpoint, if there is one. The goal is reached when
   *   its replicas run.
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` when it exists with other options, or the
   *   checkpoint cannot be written; `ENGINE_CLOSED`.
   */
  async create(name: string, options: DeploymentOptions = {}): Promise<Goal> {
    const where = `deployment ${show(name)}`;
    return this.#put(name, options, async (existing, _given, resolved) => {
      const others = changedOptions(existing.deployment.options, resolved);
      const { goal } = existing.deployment;
      if (others.length === 0 && goal.status !== 'failed') return goal;
      if (others.length === 0) return this.#changeTo(name, existing, existing.given, resolved);
      throw new InfermuxError('FAILED_PRECONDITION', `${where} exists, with other ${others.join(', ')}: call update`);
    });
  }

  /**
   * Creates a deployment, or gives an existing one exactly these options; all others get their defaults. If a
   * deployment of the same name is being deleted, it waits for that.
   *
   * @throws InfermuxError as {@link create} and {@link update}.
   */
  async apply(name: string, options: DeploymentOptions = {}): Promise<Goal> {
    return this.#put(name, options, (existing, given, resolved) => this.#changeTo(name, existing, given, resolved));
  }

  /**
   * Changes the given options and keeps the others; an option that is undefined gets its default. A new number of
   * replicas adds or stops some. Limits, batching, routing, timeouts and checks apply at once. A new `userConfig` is
   * passed to the handler's `reconfigure`. Any other change replaces the replicas in steps, while the others keep
   * running.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for an unknown name, for adding or removing a
   *   handler, or when the checkpoint cannot be written; `ENGINE_CLOSED`.
   */
  async update(name: string, changes: DeploymentOptions): Promise<Goal> {
    const expectation = readingInput('the changes', () => isObject(changes));
    if (expectation !== undefined) {
      throw new InfermuxError('INVALID_ARGUMENT', `the changes must be ${expectation}, got ${show(changes)}`);
    }
    const copy = copyOptions('the changes', changes);
    return this.#changeOf(name, async () => {
      const entry = this.#entries.require(name);
      const given = { ...entry.given, ...copy };
      const { options: before } = entry.deployment;
      // A router that could not be had at the start holds up no other change.
      const isKept = !Object.hasOwn(copy, 'router');
      const resolved = await this.#resolve(name, isKept ? { ...given, router: undefined } : given, before);
      return this.#changeTo(name, entry, given, isKept ? { ...resolved, router: before.router } : resolved);
    });
  }

  /**
   * Deletes a deployment: new requests are refused, accepted ones are answered within its `gracefulShutdownTimeoutMs`,
   * then its replicas end. A thread in a native call ends after the call.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for an unknown name, or when the checkpoint cannot
   *   be written; `ENGINE_CLOSED`.
   */
  async delete(name: string, options: DeleteOptions = {}): Promise<Goal> {
    const rules = { force: isBoolean, missingOk: isBoolean };
    const { force = false, missingOk = false } = readingInput('delete', () => checkOptions('delete', options, rules));
    checkDeploymentName(name);
    return this.#changeOf(name, async () => {
      if (missingOk && this.#entries.find(name) === undefined)
        return this.#entries.ending(name)?.deployment.goal ?? reachedGoal();
      const { declared, deployment } = this.#entries.require(name);
      await this.#save({ [name]: declared === null ? undefined : { declared, options: null } });
      return this.#entries.end(name, () => this.#pursue(deployment, deployment.delete({ force })));
    });
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` for an unknown name. */
  get(name: string): DeploymentReport {
    const ending = this.#entries.find(name) === undefined ? this.#entries.ending(name) : undefined;
    return reportOf(ending?.deployment ?? this.#entries.require(name).deployment);
  }

  /** Reports of all deployments, including those that are being deleted. */
  list(): DeploymentReport[] {
    return this.all.map(reportOf);
  }

  /** All deployments, including those that are being deleted. @internal */
  get all(): Deployment<Q>[] {
    return this.#entries.all;
  }

  /** A deployment that takes requests. @internal */
  find(name: string): Deployment<Q> | undefined {
    return this.#entries.find(name)?.deployment;
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` with the known names. @internal */
  require(name: string): Deployment<Q> {
    return this.#entries.require(name).deployment;
  }

  /**
   * What {@link apply} would do.
   *
   * @throws InfermuxError as {@link apply}, but for a checkpoint that cannot be written.
   * @internal
   */
  async planOf(name: string, given: DeploymentOptions): Promise<DeploymentPlan> {
    const { deployment, declared } = this.#entries.find(name) ?? { declared: this.#entries.declaredOf(name) };
    this.#entries.checkSavable(name, { declared, options: given });
    const resolved = await this.#resolve(name, given, deployment?.options);
    if (deployment === undefined) return { resolved, to: resolved.replicas, changed: undefined, goal: undefined };
    checkHandlerStays(name, deployment.options, resolved);
    const changed = changedOptions(deployment.options, resolved);
    return { resolved, to: targetOf(deployment.targetReplicas, resolved), changed, goal: deployment.goal };
  }

  /**
   * Starts the deployments that the program declares, and the saved ones. A deployment that is declared as before
   * starts with its saved options.
   *
   * @throws InfermuxError `REPLICA_FAILED` when no replica of a declared deployment starts.
   * @internal
   */
  async open(declared: Readonly<Record<string, DeploymentOptions>>, saved: SavedDeployments): Promise<void> {
    const wanted = await new DeclaredStart(this.#entries, this.#environment, this.goals, this.#routers).begin(
      declared,
      saved,
    );
    // Only now: a declaration that does not start must not replace a saved one that did.
    await this.#save(wanted);
  }

  /** Resolves when no thread of a deleted deployment is left. @internal */
  async untilGone(): Promise<void> {
    await this.#entries.untilGone();
  }

  /** Refuses changes from now on, queued ones too; resolves when no write is under way. @internal */
  async close(error: InfermuxError): Promise<void> {
    this.#closed ??= error;
    this.#routers.close(error);
    await this.#turns.untilDone();
  }

  /** @param before the options in force. */
  #resolve(
    name: string,
    given: DeploymentOptions,
    before?: ResolvedDeploymentOptions,
  ): Promise<ResolvedDeploymentOptions> {
    return resolveNamed(name, given, this.#environment.defaultReplicas(name), this.#routers, before);
  }

  /** @param changed decides what becomes of a deployment that exists. */
  async #put(name: string, options: DeploymentOptions, changed: ExistingChange<Q>): Promise<Goal> {
    checkDeploymentName(name);
    const given = copyOptions(`deployment ${show(name)}`, options);
    return this.#latest.inTurn(name, () => this.#putInTurn(name, given, changed));
  }

  async #putInTurn(name: string, given: DeploymentOptions, changed: ExistingChange<Q>): Promise<Goal> {
    for (;;) {
      const result = await this.#change(async () => {
        const ending = this.#entries.ending(name);
        if (ending !== undefined) return ending;
        const existing = this.#entries.find(name);
        const resolved = await this.#resolve(name, given, existing?.deployment.options);
        if (existing !== undefined) return changed(existing, given, resolved);
        this.#environment.checkCapacity(name, resolved, 0, resolved.replicas);
        const goalId = randomUUID();
        const declared = this.#entries.declaredOf(name);
        await this.#save({ [name]: { declared, options: given, goal: goalId } });
        return this.#pursue(this.#entries.begin(name, { given, resolved, declared, goalId }));
      });
      if (!('gone' in result)) return result;
      // Outside the queue of changes: other changes do not wait for the deletion.
      await this.#environment.during(() => result.gone);
    }
  }

  /** Changes the deployment to these options. Call it in its turn. */
  async #changeTo(
    name: string,
    entry: Entry<Q>,
    given: DeploymentOptions,
    resolved: ResolvedDeploymentOptions,
  ): Promise<Goal> {
    const { deployment, declared } = entry;
    checkHandlerStays(name, deployment.options, resolved);
    const isSame = changedOptions(deployment.options, resolved).length === 0;
    const { targetReplicas: from } = deployment;
    if (!isSame) this.#environment.checkCapacity(name, resolved, from, targetOf(from, resolved));
    const isPursued = isSame && deployment.goal.status !== 'failed';
    const goalId = isPursued ? deployment.goal.id : randomUUID();
    await this.#save({ [name]: { declared, options: given, goal: goalId } });
    entry.given = given;
    entry.goalId = goalId;
    if (isPursued) return deployment.goal;
    const goal = deployment.update(resolved, goalId);
    this.#environment.changed();
    return this.#pursue(deployment, goal);
  }

  #add(name: string, goal: Goal): Goal {
    return this.goals.add(name, goal);
  }

  /** Keeps the process alive until the goal is decided, unless that may take for ever. */
  #pursue(deployment: Deployment<Q>, goal: Goal = deployment.start()): Goal {
    void this.#environment.during(() => deployment.untilDecidedOrFailing());
    return this.#add(deployment.name, goal);
  }

  /** Changes of one deployment are made in their order, those that wait for the end of a deletion, too. */
  #changeOf(name: string, work: () => Promise<Goal>): Promise<Goal> {
    return this.#latest.inTurn(name, () => this.#change(work));
  }

  /** Makes one change after the other, so that changes are acted on in the order in which they are written. */
  #change<T>(work: () => Promise<T>): Promise<T> {
    return this.#environment.during(() =>
      this.#turns.run(() => {
        this.#checkOpen();
        return work();
      }),
    );
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw cloneError(this.#closed);
  }

  /** @throws InfermuxError also `ENGINE_CLOSED` when the engine was closed meanwhile. */
  async #save(changed: Readonly<Record<string, SavedDeployment | undefined>>): Promise<void> {
    await this.#entries.save(changed);
    this.#checkOpen();
  }
}
