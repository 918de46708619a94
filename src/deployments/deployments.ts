import { checkOptions, isBoolean, isObject } from '../common/checks.js';
import { cloneError, InfermuxError, messageOf, readingInput, show, showNames } from '../common/errors.js';
import { SerialQueue } from '../common/serial-queue.js';
import { isSameData } from '../common/values/realm.js';
import {
  checkSavedDeployment,
  copyOptions,
  restoreDeployments,
  type SavedDeployment,
  type SavedDeployments,
  savedForm,
} from './checkpoint/saved-deployments.js';
import { changedOptions } from './config/config-change.js';
import { checkDeploymentName } from './config/deployment-name.js';
import type { DeploymentOptions, ResolvedDeploymentOptions } from './config/deployment-options.js';
import { resolveNamed, resolveSaved } from './config/resolve-named.js';
import type { Deployment } from './deployment.js';
import type { DeploymentQueue } from './deployment-environment.js';
import { type DeploymentReport, reportOf } from './deployment-report.js';
import type { DeploymentsEnvironment } from './deployments-environment.js';
import type { Goal } from './goals.js';

export interface DeleteOptions {
  /** Reject accepted requests at once, with `FAILED_PRECONDITION`. Default false: answer them first. */
  readonly force?: boolean | undefined;
}

/** A deployment with the options that it was asked for. */
interface Entry<Q extends DeploymentQueue> {
  readonly deployment: Deployment<Q>;
  /** As in {@link SavedDeployment}. */
  readonly declared: DeploymentOptions | null;
  /** The options as the caller gave them, without defaults. */
  given: DeploymentOptions;
}

/** The deployments of an engine, `engine.deployments`: creates, changes and deletes them. */
export class Deployments<Q extends DeploymentQueue = DeploymentQueue> {
  readonly #environment: DeploymentsEnvironment<Q>;
  readonly #entries = new Map<string, Entry<Q>>();
  /** Deployments that are being deleted; `gone` resolves when the deletion ends. */
  readonly #ending = new Map<string, { readonly deployment: Deployment<Q>; readonly gone: Promise<void> }>();
  /** Deleted deployments with abandoned threads; each promise resolves when the threads are gone. */
  readonly #lingering = new Set<Promise<void>>();
  /** Declared deployments that were deleted, for the checkpoint. */
  readonly #deleted = new Map<string, DeploymentOptions>();
  readonly #turns = new SerialQueue();
  #closed: InfermuxError | undefined;

  /** @internal */
  constructor(environment: DeploymentsEnvironment<Q>) {
    this.#environment = environment;
  }

  /**
   * Creates and starts a deployment. A deployment that exists with equal options stays as it is. While one of the same
   * name is being deleted, creation waits for its end.
   *
   * @returns the goal, when the deployment is in the checkpoint, if there is one; the goal is reached when its replicas
   *   run.
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` when it exists with other options, or the
   *   checkpoint cannot be written; `ENGINE_CLOSED`.
   */
  async create(name: string, options: DeploymentOptions = {}): Promise<Goal> {
    checkDeploymentName(name);
    const where = `deployment ${show(name)}`;
    const given = copyOptions(where, options);
    const resolved = await this.#resolve(name, given);
    for (;;) {
      const result = await this.#change(async () => {
        const ending = this.#ending.get(name);
        if (ending !== undefined) return ending;
        const existing = this.#entries.get(name)?.deployment;
        if (existing !== undefined) return equalGoal(where, existing, resolved);
        const declared = this.#deleted.get(name) ?? null;
        await this.#save({ [name]: { declared, options: given } });
        return this.#pursue(this.#begin(name, given, resolved, declared));
      });
      if (!('gone' in result)) return result;
      // Outside the queue of changes: other changes do not wait for the deletion.
      await this.#environment.during(() => result.gone);
    }
  }

  /**
   * Changes the named options and keeps the others; an option that is undefined goes back to its default. A new number
   * of replicas scales. Limits, batching, routing, time-outs and checks apply at once. `userConfig` is given to
   * handlers that take it while they run. Any other change replaces the replicas in steps, while the rest go on.
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
    return this.#change(async () => {
      const entry = this.#entryOf(name);
      const { deployment } = entry;
      const given = { ...entry.given, ...copy };
      const resolved = await this.#resolve(name, given, deployment.options);
      if ((resolved.handler === undefined) !== (deployment.options.handler === undefined)) {
        const message = `deployment ${show(name)}: a handler cannot be added or removed, since it takes requests of another kind; delete the deployment and create another`;
        throw new InfermuxError('FAILED_PRECONDITION', message);
      }
      await this.#save({ [name]: { declared: entry.declared, options: given } });
      entry.given = given;
      const goal = deployment.update(resolved);
      this.#environment.changed();
      return this.#pursue(deployment, goal);
    });
  }

  /**
   * Deletes a deployment: new requests are refused, accepted ones are answered within its `gracefulShutdownTimeoutMs`,
   * then its replicas end. A thread that is in a native call by then ends after the call.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for an unknown name, or when the checkpoint cannot
   *   be written; `ENGINE_CLOSED`.
   */
  async delete(name: string, options: DeleteOptions = {}): Promise<Goal> {
    const { force = false } = readingInput('delete', () => checkOptions('delete', options, { force: isBoolean }));
    return this.#change(async () => {
      const { declared, deployment } = this.#entryOf(name);
      await this.#save({ [name]: declared === null ? undefined : { declared, options: null } });
      this.#entries.delete(name);
      this.#environment.changed();
      this.#environment.deleted(name);
      if (declared !== null) this.#deleted.set(name, declared);
      const goal = this.#pursue(deployment, deployment.delete({ force }));
      const end = () => {
        this.#ending.delete(name);
        const left = deployment.untilGone().finally(() => this.#lingering.delete(left));
        this.#lingering.add(left);
      };
      const gone = goal.done.then(end, end);
      this.#ending.set(name, { deployment, gone });
      return goal;
    });
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` for an unknown name. */
  get(name: string): DeploymentReport {
    const ending = this.#entries.has(name) ? undefined : this.#ending.get(name);
    return reportOf(ending?.deployment ?? this.#entryOf(name).deployment);
  }

  /** Reports of all deployments, including those that are being deleted. */
  list(): DeploymentReport[] {
    return this.all.map(reportOf);
  }

  /** All deployments, including those that are being deleted. @internal */
  get all(): Deployment<Q>[] {
    return [...this.#entries.values(), ...this.#ending.values()].map(({ deployment }) => deployment);
  }

  /** A deployment that takes requests. @internal */
  find(name: string): Deployment<Q> | undefined {
    return this.#entries.get(name)?.deployment;
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` with the known names. @internal */
  require(name: string): Deployment<Q> {
    return this.#entryOf(name).deployment;
  }

  /**
   * Starts the deployments that the program declares, and the saved ones. A deployment that is declared as before
   * starts with its saved options.
   *
   * @throws InfermuxError `REPLICA_FAILED` when no replica of a declared deployment starts.
   * @internal
   */
  async open(declared: Readonly<Record<string, DeploymentOptions>>, saved: SavedDeployments): Promise<void> {
    const { log, defaultReplicas } = this.#environment;
    const copies = Object.entries(declared).map(([name, options]) => [name, copyOptions(show(name), options)] as const);
    const wanted = restoreDeployments(Object.fromEntries(copies), saved, (name, what) =>
      log('info', { deployment: name }, what),
    );
    for (const [name, { declared: own, options }] of Object.entries(wanted)) {
      if (options === null) {
        if (own !== null) this.#deleted.set(name, own);
        continue;
      }
      const isDeclared = isSameData(options, own);
      const warn = (reason: string) =>
        log('warn', { deployment: name, reason }, 'the router of a checkpoint cannot be had');
      const resolved = await (isDeclared
        ? this.#resolve(name, options)
        : resolveSaved(name, options, defaultReplicas(name), warn));
      this.#begin(name, options, resolved, own).start();
    }
    await Promise.all([...this.#entries].map(([name, entry]) => this.#untilStarted(name, entry)));
    // Only now: a declaration that does not start must not replace a saved one that did.
    await this.#save(wanted);
  }

  /** Resolves when no thread of a deleted deployment is left. @internal */
  async untilGone(): Promise<void> {
    await Promise.all(this.#lingering);
  }

  /** Refuses changes from now on, queued ones too; resolves when no write is under way. @internal */
  async close(error: InfermuxError): Promise<void> {
    this.#closed ??= error;
    await this.#turns.untilDone();
  }

  async #untilStarted(name: string, { deployment, declared, given }: Entry<Q>): Promise<void> {
    try {
      await deployment.untilStarted();
    } catch (error) {
      // Saved options can be corrected once the engine runs; declared options only in the program.
      if (isSameData(given, declared)) throw error;
      const reason = messageOf(error);
      this.#environment.log('warn', { deployment: name, reason }, 'a deployment from the checkpoint does not start');
    }
  }

  /** @param before the options in force. */
  #resolve(
    name: string,
    given: DeploymentOptions,
    before?: ResolvedDeploymentOptions,
  ): Promise<ResolvedDeploymentOptions> {
    return resolveNamed(name, given, this.#environment.defaultReplicas(name), before);
  }

  #begin(
    name: string,
    given: DeploymentOptions,
    resolved: ResolvedDeploymentOptions,
    declared: DeploymentOptions | null,
  ): Deployment<Q> {
    const deployment = this.#environment.create(name, resolved);
    this.#entries.set(name, { deployment, declared, given });
    this.#environment.changed();
    this.#deleted.delete(name);
    return deployment;
  }

  /** Keeps the process alive until the goal is decided, unless that may take for ever. */
  #pursue(deployment: Deployment<Q>, goal: Goal = deployment.start()): Goal {
    void this.#environment.during(() => deployment.untilDecidedOrFailing());
    return goal;
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

  #entryOf(name: string): Entry<Q> {
    const entry = this.#entries.get(name);
    if (entry !== undefined) return entry;
    checkDeploymentName(name);
    const message = `no deployment ${show(name)}; there are: ${showNames([...this.#entries.keys()])}`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  /** @throws InfermuxError also `ENGINE_CLOSED` when the engine was closed meanwhile. */
  async #save(changed: Readonly<Record<string, SavedDeployment | undefined>>): Promise<void> {
    if (!this.#environment.isSaved) return;
    for (const [name, saved] of Object.entries(changed)) checkSavedDeployment(`deployment ${show(name)}`, saved);
    const all = new Map<string, SavedDeployment | undefined>();
    for (const [name, declared] of this.#deleted) all.set(name, { declared, options: null });
    for (const [name, { declared, given: options }] of this.#entries) all.set(name, { declared, options });
    for (const [name, saved] of Object.entries(changed)) all.set(name, saved);
    await this.#environment.save(savedForm(all));
    this.#checkOpen();
  }
}

/**
 * Returns the goal of an existing deployment that is asked for again.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` when it has other options.
 */
function equalGoal(where: string, existing: Deployment<DeploymentQueue>, resolved: ResolvedDeploymentOptions): Goal {
  const others = changedOptions(existing.options, resolved);
  if (others.length === 0) return existing.pursueAgain();
  throw new InfermuxError('FAILED_PRECONDITION', `${where} exists, with other ${others.join(', ')}: call update`);
}
