import { isDeepStrictEqual } from 'node:util';
import { checkOptions, isBoolean, isObject } from '../common/checks.js';
import { cloneError, InfermuxError, messageOf, readingInput, show } from '../common/errors.js';
import { SerialQueue } from '../common/serial-queue.js';
import {
  checkSavable,
  copyOptions,
  restoreDeployments,
  type SavedDeployment,
  type SavedDeployments,
  toSaved,
} from './checkpoint/saved-deployments.js';
import { isSameOption } from './config/config-change.js';
import { checkDeploymentName } from './config/deployment-name.js';
import type { DeploymentOptions, ResolvedDeploymentOptions } from './config/deployment-options.js';
import { resolveDeployment } from './config/resolve-deployment.js';
import type { Deployment } from './deployment.js';
import type { DeploymentQueue } from './deployment-environment.js';
import { type DeploymentReport, reportOf } from './deployment-report.js';
import type { Goal } from './goals.js';

export interface DeploymentsEnvironment<Q extends DeploymentQueue> {
  /** Makes it, and lets it wait to be started. */
  create(name: string, options: ResolvedDeploymentOptions): Deployment<Q>;
  /** A name may stand for another deployment than before, or for none. */
  changed(): void;
  /** Its requests are refused from now on. */
  deleted(name: string): void;
  /** How many replicas one has that does not say so. */
  defaultReplicas(name: string): number;
  /** Writes down what deployments there are to be, before that is acted on. */
  save(deployments: SavedDeployments): Promise<void>;
  /** Whether {@link save} keeps anything. */
  readonly isSaved: boolean;
  /** Keeps the process up as long as the work goes on. */
  during<T>(work: () => Promise<T>): Promise<T>;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
}

export interface DeleteOptions {
  /** Reject accepted requests at once, with `FAILED_PRECONDITION`. Default false: they are answered first. */
  readonly force?: boolean | undefined;
}

/** A deployment, and what it was asked for as. */
interface Entry<Q extends DeploymentQueue> {
  readonly deployment: Deployment<Q>;
  readonly declared: DeploymentOptions | null;
  given: DeploymentOptions;
}

/** Creates, changes and deletes deployments. `engine.deployments`. */
export class Deployments<Q extends DeploymentQueue = DeploymentQueue> {
  readonly #environment: DeploymentsEnvironment<Q>;
  readonly #entries = new Map<string, Entry<Q>>();
  /** Those that are being deleted, and what their end is. */
  readonly #ending = new Map<string, { readonly deployment: Deployment<Q>; readonly gone: Promise<void> }>();
  /** What is left of those that are deleted: threads that were given up. */
  readonly #lingering = new Set<Promise<void>>();
  /** Declared ones that were deleted, for the checkpoint. */
  readonly #deleted = new Map<string, DeploymentOptions>();
  readonly #turns = new SerialQueue();
  #closed: InfermuxError | undefined;

  /** @internal */
  constructor(environment: DeploymentsEnvironment<Q>) {
    this.#environment = environment;
  }

  /**
   * Starts one more deployment. One that exists with equal options stays as it is. Where one of that name is being
   * deleted, it begins when that is gone.
   *
   * @returns when it is written down, if there is a checkpoint; the goal is reached when its replicas run.
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` when it exists with other options, or the
   *   checkpoint cannot be written; `ENGINE_CLOSED`.
   */
  async create(name: string, options: DeploymentOptions = {}): Promise<Goal> {
    checkDeploymentName(name);
    const where = `deployment ${show(name)}`;
    const given = copyOptions(where, options);
    const resolved = this.#resolve(name, given);
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
      // Others are not to wait for that.
      await this.#environment.during(() => result.gone);
    }
  }

  /**
   * Changes the options that are named, and leaves the others; one that is undefined goes back to its default. Another
   * number of replicas scales; limits, batching, routing, time-outs and checks are in force at once; `userConfig` is
   * given to handlers that take it while they run; anything else replaces the replicas one after the other, while the
   * others go on.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for a name that is not there, for a handler that is
   *   to be added or taken away, or when the checkpoint cannot be written; `ENGINE_CLOSED`.
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
      const resolved = this.#resolve(name, given);
      if ((resolved.handler === undefined) !== (deployment.options.handler === undefined)) {
        const message = `deployment ${show(name)}: a handler cannot be added or taken away, since requests for it are of another kind; delete it and create another`;
        throw new InfermuxError('FAILED_PRECONDITION', message);
      }
      await this.#save({ [name]: { declared: entry.declared, options: given } });
      entry.given = given;
      return this.#pursue(deployment, deployment.update(resolved));
    });
  }

  /**
   * Takes a deployment away: its requests are refused from now on, accepted ones are answered within its
   * `gracefulShutdownTimeoutMs`, then its replicas end. A thread that is in a native call by then ends after it.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for a name that is not there, or when the
   *   checkpoint cannot be written; `ENGINE_CLOSED`.
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

  /** @throws InfermuxError `FAILED_PRECONDITION` for a name that is not there. */
  get(name: string): DeploymentReport {
    const ending = this.#entries.has(name) ? undefined : this.#ending.get(name);
    return reportOf(ending?.deployment ?? this.#entryOf(name).deployment);
  }

  /** All, those that are being deleted included. */
  list(): DeploymentReport[] {
    return this.all.map(reportOf);
  }

  /** @internal */
  get all(): Deployment<Q>[] {
    return [...this.#entries.values(), ...this.#ending.values()].map(({ deployment }) => deployment);
  }

  /** One that takes requests. @internal */
  find(name: string): Deployment<Q> | undefined {
    return this.#entries.get(name)?.deployment;
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` naming those that are there. @internal */
  require(name: string): Deployment<Q> {
    return this.#entryOf(name).deployment;
  }

  /**
   * Begins with what the program declares; where that is as it was when the checkpoint was written, with what became of
   * it.
   *
   * @throws InfermuxError `REPLICA_FAILED` when one that is declared has no replica that starts.
   * @internal
   */
  async open(declared: Readonly<Record<string, DeploymentOptions>>, saved: SavedDeployments): Promise<void> {
    const { log } = this.#environment;
    const copies = Object.entries(declared).map(([name, options]) => [name, copyOptions(show(name), options)] as const);
    const wanted = restoreDeployments(Object.fromEntries(copies), saved, (name, what) =>
      log('info', { deployment: name }, what),
    );
    for (const [name, { declared: own, options }] of Object.entries(wanted)) {
      if (options !== null) this.#begin(name, options, this.#resolve(name, options), own).start();
      else if (own !== null) this.#deleted.set(name, own);
    }
    await Promise.all([...this.#entries].map(([name, entry]) => this.#untilStarted(name, entry)));
    // Not before: what a program wants that does not start is not to take the place of what did.
    await this.#save(wanted);
  }

  /** Resolves when no thread is left of those that are deleted. @internal */
  async untilGone(): Promise<void> {
    await Promise.all(this.#lingering);
  }

  /** Resolves when no change is being written down. @internal */
  async close(error: InfermuxError): Promise<void> {
    this.#closed ??= error;
    await this.#turns.untilDone();
  }

  async #untilStarted(name: string, { deployment, declared, given }: Entry<Q>): Promise<void> {
    try {
      await deployment.untilStarted();
    } catch (error) {
      // What a checkpoint has can be mended once the engine runs; what the program says cannot.
      if (isDeepStrictEqual(given, declared)) throw error;
      const reason = messageOf(error);
      this.#environment.log('warn', { deployment: name, reason }, 'a deployment of the checkpoint does not start');
    }
  }

  #resolve(name: string, given: DeploymentOptions): ResolvedDeploymentOptions {
    const where = `deployment ${show(name)}`;
    return readingInput(where, () => resolveDeployment(where, given, this.#environment.defaultReplicas(name)));
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

  /** The process stays up for it, unless it may take for ever. */
  #pursue(deployment: Deployment<Q>, goal: Goal = deployment.start()): Goal {
    void this.#environment.during(() => deployment.untilDecidedOrFailing());
    return goal;
  }

  /** One change after the other: what is written down is what is acted on. */
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
    const known = [...this.#entries.keys()].map(show).join(', ') || 'none';
    const message = `no deployment ${show(name)}; there are: ${known}`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  /** @throws InfermuxError also when the engine was closed meanwhile. */
  async #save(changed: Readonly<Record<string, SavedDeployment | undefined>>): Promise<void> {
    if (!this.#environment.isSaved) return;
    for (const [name, saved] of Object.entries(changed)) checkSaved(`deployment ${show(name)}`, saved);
    const all = new Map<string, SavedDeployment | undefined>();
    for (const [name, declared] of this.#deleted) all.set(name, { declared, options: null });
    for (const [name, { declared, given: options }] of this.#entries) all.set(name, { declared, options });
    for (const [name, saved] of Object.entries(changed)) all.set(name, saved);
    // JSON leaves out what is undefined.
    await this.#environment.save(
      Object.fromEntries([...all].map(([name, saved]) => [name, saved && asWritten(saved)])) as SavedDeployments,
    );
    this.#checkOpen();
  }
}

/** Of what exists, if it is as it was asked for. */
function equalGoal(where: string, existing: Deployment<DeploymentQueue>, resolved: ResolvedDeploymentOptions): Goal {
  const keys = Object.keys(resolved) as (keyof ResolvedDeploymentOptions)[];
  const others = keys.filter((key) => !isSameOption(key, existing.options, resolved));
  if (others.length === 0) return existing.pursueAgain();
  throw new InfermuxError('FAILED_PRECONDITION', `${where} exists, with other ${others.join(', ')}: call update`);
}

/** @throws InfermuxError `FAILED_PRECONDITION` for options that a checkpoint cannot carry. */
function checkSaved(where: string, saved: SavedDeployment | undefined): void {
  if (saved === undefined || saved.options === null) return;
  const { router } = saved.options;
  if (typeof router === 'object' && router !== saved.declared?.router) {
    const message = `${where}: a router of your own is code, which cannot be written to a checkpoint: name it where the engine is created, or name a router of infermux`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }
  checkSavable(where, toSaved(saved.options));
}

function asWritten({ declared, options }: SavedDeployment): SavedDeployment {
  return { declared: declared && toSaved(declared), options: options && toSaved(options) };
}
