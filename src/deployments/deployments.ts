import { isDeepStrictEqual } from 'node:util';
import { checkOptions, isBoolean, isObject } from '../check.js';
import { checkDeploymentName } from '../deployment-name.js';
import { InfermuxError, messageOf, show } from '../errors.js';
import type { Deployment, DeploymentState } from './deployment.js';
import { type DeploymentOptions, type ResolvedDeploymentOptions, resolveDeployment } from './deployment-options.js';
import type { Goal } from './goals.js';

export interface DeploymentsEnvironment {
  /** Makes it, and lets it wait to be started. */
  create(name: string, options: ResolvedDeploymentOptions): Deployment;
  /** Nobody can ask for it any more, and its replicas are gone. */
  gone(deployment: Deployment): void;
  /** Writes down what deployments there are to be, before that is acted on. */
  save(deployments: SavedDeployments): Promise<void>;
  /** Whether {@link save} keeps anything. */
  readonly isSaved: boolean;
  /** Keeps the process up as long as the work goes on. */
  during<T>(work: () => Promise<T>): Promise<T>;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
}

/** A deployment as a checkpoint has it. */
interface SavedDeployment {
  /** What the program asked for when it started; null for one that was created later. */
  readonly declared: DeploymentOptions | null;
  /** What it is to be; null for one that was deleted. */
  readonly options: DeploymentOptions | null;
}

export type SavedDeployments = Readonly<Record<string, SavedDeployment>>;

export interface DeleteOptions {
  /** Reject accepted requests at once, with `FAILED_PRECONDITION`. Default false: they are answered first. */
  readonly force?: boolean | undefined;
}

/** A snapshot. */
export interface DeploymentReport {
  readonly name: string;
  readonly state: DeploymentState;
  /** Whether its requests are answered. */
  readonly ready: boolean;
  /** How many replicas there are to be, and how many take requests. */
  readonly targetReplicas: number;
  readonly runningReplicas: number;
  /** Requests that wait for a replica. */
  readonly queued: number;
  /** Requests given to a replica and not finished. */
  readonly ongoing: number;
  /** Why a replica failed, the last time one did. */
  readonly lastFailure: string | undefined;
  /** What the last change is to lead to. */
  readonly goal: Goal;
  readonly options: ResolvedDeploymentOptions;
}

/** A deployment, and what it was asked for as. */
interface Entry {
  readonly deployment: Deployment;
  readonly declared: DeploymentOptions | null;
  given: DeploymentOptions;
}

/** Creates, changes and deletes deployments. `engine.deployments`. */
export class Deployments {
  readonly #environment: DeploymentsEnvironment;
  readonly #entries = new Map<string, Entry>();
  /** Those that are being deleted: what ends with them. */
  readonly #ending = new Map<string, { readonly deployment: Deployment; readonly gone: Promise<unknown> }>();
  /** Declared ones that were deleted, for the checkpoint. */
  readonly #deleted = new Map<string, DeploymentOptions>();
  #lastChange: Promise<unknown> = Promise.resolve();
  #closed: InfermuxError | undefined;

  /** @internal */
  constructor(environment: DeploymentsEnvironment) {
    this.#environment = environment;
  }

  /**
   * Starts one more deployment. One that exists with equal options stays as it is.
   *
   * @returns when it is written down, if there is a checkpoint; the goal is reached when its replicas run.
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` when it exists with other options, or the checkpoint cannot
   *   be written; `ENGINE_CLOSED`.
   */
  async create(name: string, options: DeploymentOptions = {}): Promise<Goal> {
    checkDeploymentName(name);
    const given = copyOf(options);
    const resolved = resolveDeployment(`deployment ${show(name)}`, given);
    this.#checkSavable(name, given);
    await this.#untilNameIsFree(name);
    return this.#change(async () => {
      const existing = this.#entries.get(name)?.deployment;
      if (existing !== undefined) {
        if (!existing.differsFrom(resolved)) return existing.goal;
        const keys = Object.keys(resolved) as (keyof ResolvedDeploymentOptions)[];
        const others = keys.filter((key) => !isDeepStrictEqual(existing.options[key], resolved[key]));
        const message = `deployment ${show(name)} exists, with other ${others.join(', ')}: call update`;
        throw new InfermuxError('FAILED_PRECONDITION', message);
      }
      await this.#save({ [name]: { declared: this.#deleted.get(name) ?? null, options: given } });
      return this.#pursue(this.#begin(name, given, resolved, this.#deleted.get(name) ?? null));
    });
  }

  /**
   * Changes the options that are named, and leaves the others; one that is undefined goes back to its default. Another number
   * of replicas scales; limits, batching, time-outs and checks are in force at once; `userConfig` is given to handlers that
   * take it while they run; anything else replaces the replicas one after the other, while the others go on.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for a name that is not there, for a handler that is to be
   *   added or taken away, or when the checkpoint cannot be written; `ENGINE_CLOSED`.
   */
  async update(name: string, changes: DeploymentOptions): Promise<Goal> {
    const expectation = isObject(changes);
    if (expectation !== undefined) {
      throw new InfermuxError('INVALID_ARGUMENT', `the changes must be ${expectation}, got ${show(changes)}`);
    }
    const copy = copyOf(changes);
    return this.#change(async () => {
      const entry = this.#entryOf(name);
      const { deployment } = entry;
      const given = { ...entry.given, ...copy };
      const resolved = resolveDeployment(`deployment ${show(name)}`, given, deployment.options.replicas);
      if ((resolved.handler === undefined) !== (deployment.options.handler === undefined)) {
        const message = `deployment ${show(name)}: a handler cannot be added or taken away, since requests for it are of another kind; delete it and create another`;
        throw new InfermuxError('FAILED_PRECONDITION', message);
      }
      if (!deployment.differsFrom(resolved)) return deployment.goal;
      this.#checkSavable(name, given);
      await this.#save({ [name]: { declared: entry.declared, options: given } });
      entry.given = given;
      return this.#pursue(deployment.update(resolved));
    });
  }

  /**
   * Takes a deployment away: its requests are refused from now on, accepted ones are answered within its
   * `gracefulShutdownTimeoutMs`, then its replicas end.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for a name that is not there, or when the checkpoint cannot
   *   be written; `ENGINE_CLOSED`.
   */
  async delete(name: string, options: DeleteOptions = {}): Promise<Goal> {
    const { force = false } = checkOptions('delete', options, { force: isBoolean });
    return this.#change(async () => {
      const { declared, deployment } = this.#entryOf(name);
      await this.#save({ [name]: declared === null ? undefined : { declared, options: null } });
      this.#entries.delete(name);
      if (declared !== null) this.#deleted.set(name, declared);
      const goal = this.#pursue(deployment.delete({ force }));
      const finish = () => {
        this.#ending.delete(name);
        this.#environment.gone(deployment);
      };
      const gone = goal.done.then(finish, finish);
      this.#ending.set(name, { deployment, gone });
      return goal;
    });
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` for a name that is not there. */
  get(name: string): DeploymentReport {
    const ending = this.#entries.has(name) ? undefined : this.#ending.get(name);
    return report(ending?.deployment ?? this.#entryOf(name).deployment);
  }

  /** All, those that are being deleted included. */
  list(): DeploymentReport[] {
    return this.all.map(report);
  }

  /** @internal */
  get all(): Deployment[] {
    return [...this.#entries.values(), ...this.#ending.values()].map(({ deployment }) => deployment);
  }

  /** One that takes requests. @internal */
  find(name: string): Deployment | undefined {
    return this.#entries.get(name)?.deployment;
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` naming those that are there. @internal */
  require(name: string): Deployment {
    return this.#entryOf(name).deployment;
  }

  /**
   * Begins with what the program declares; where that is as it was when the checkpoint was written, with what became of it.
   *
   * @throws InfermuxError `REPLICA_FAILED` when one that is declared has no replica that starts.
   * @internal
   */
  async open(
    declared: Readonly<Record<string, DeploymentOptions>>,
    defaultReplicas: (name: string) => number,
    saved: SavedDeployments,
  ): Promise<void> {
    const wanted = restore(declared, saved, (name, what) => this.#environment.log('info', { deployment: name }, what));
    if (this.#environment.isSaved) {
      for (const [name, { options }] of Object.entries(wanted)) this.#checkSavable(name, options ?? {});
      await this.#environment.save(wanted);
    }
    for (const [name, { declared: own, options }] of Object.entries(wanted)) {
      if (options !== null) {
        const resolved = resolveDeployment(`deployment ${show(name)}`, options, defaultReplicas(name));
        this.#begin(name, options, resolved, own);
      } else if (own !== null) this.#deleted.set(name, own);
    }
    await Promise.all(
      [...this.#entries].map(async ([name, { deployment, declared: own }]) => {
        try {
          await deployment.untilStarted();
        } catch (error) {
          if (own !== null) throw error;
          this.#environment.log(
            'warn',
            { deployment: name, reason: messageOf(error) },
            'a deployment of the checkpoint does not start',
          );
        }
      }),
    );
  }

  /** @internal */
  close(error: InfermuxError): void {
    this.#closed ??= error;
  }

  #begin(
    name: string,
    given: DeploymentOptions,
    resolved: ResolvedDeploymentOptions,
    declared: DeploymentOptions | null,
  ): Goal {
    const deployment = this.#environment.create(name, resolved);
    this.#entries.set(name, { deployment, declared, given });
    this.#deleted.delete(name);
    return deployment.start();
  }

  /** The process stays up for it. */
  #pursue(goal: Goal): Goal {
    void this.#environment.during(() => goal.done).catch(() => undefined);
    return goal;
  }

  /** One change after the other: what is written down is what is acted on. */
  #change(work: () => Promise<Goal>): Promise<Goal> {
    const changed = this.#lastChange.then(() => {
      if (this.#closed !== undefined) throw new InfermuxError(this.#closed.code, this.#closed.message);
      return work();
    });
    this.#lastChange = changed.catch(() => undefined);
    return this.#environment.during(() => changed);
  }

  async #untilNameIsFree(name: string): Promise<void> {
    for (let ending = this.#ending.get(name); ending !== undefined; ending = this.#ending.get(name)) await ending.gone;
  }

  #entryOf(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry !== undefined) return entry;
    checkDeploymentName(name);
    const known = [...this.#entries.keys()].map(show).join(', ') || 'none';
    const message = `no deployment ${show(name)}; there are: ${known}`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  async #save(changed: Readonly<Record<string, SavedDeployment | undefined>>): Promise<void> {
    if (!this.#environment.isSaved) return;
    const all: Record<string, SavedDeployment | undefined> = {};
    for (const [name, { declared, given: options }] of this.#entries) all[name] = { declared, options };
    for (const [name, declared] of this.#deleted) all[name] ??= { declared, options: null };
    // JSON leaves out what is undefined.
    await this.#environment.save({ ...all, ...changed } as SavedDeployments);
  }

  #checkSavable(name: string, given: DeploymentOptions): void {
    if (!this.#environment.isSaved) return;
    checkSavable(`deployment ${show(name)}`, given);
  }
}

/** @throws InfermuxError `FAILED_PRECONDITION` for options that a checkpoint cannot carry. */
export function checkSavable(where: string, given: object): void {
  const plain = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const key = Object.keys(plain).find((name) => !isDeepStrictEqual(asSaved(plain[name]), plain[name]));
  if (key === undefined) return;
  const message = `${where}: ${key} cannot be written to a checkpoint, which carries what JSON does`;
  throw new InfermuxError('FAILED_PRECONDITION', message);
}

function asSaved(value: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(value));
  } catch {
    return undefined;
  }
}

/** What the caller gave, as it is now; an address becomes text. */
function copyOf(options: DeploymentOptions): DeploymentOptions {
  if (isObject(options) !== undefined) return options;
  const { handler } = options;
  return { ...options, ...(handler instanceof URL && { handler: handler.href }) };
}

function restore(
  declared: Readonly<Record<string, DeploymentOptions>>,
  saved: SavedDeployments,
  log: (name: string, what: string) => void,
): Record<string, SavedDeployment> {
  const wanted: Record<string, SavedDeployment> = {};
  for (const [name, options] of Object.entries(declared)) {
    const before = Object.hasOwn(saved, name) ? saved[name] : undefined;
    const own = copyOf(options);
    const isAsBefore = before !== undefined && isDeepStrictEqual(asSaved(own), before.declared);
    wanted[name] = isAsBefore ? { declared: own, options: before.options } : { declared: own, options: own };
    if (before !== undefined && !isAsBefore)
      log(name, 'the deployment is declared otherwise than before, and begins anew');
  }
  for (const [name, before] of Object.entries(saved)) {
    if (Object.hasOwn(declared, name)) continue;
    if (before.declared === null) wanted[name] = before;
    else log(name, 'the deployment is declared no more, and left out');
  }
  return wanted;
}

function report(deployment: Deployment): DeploymentReport {
  const { name, state, isReady, targetReplicas, running, queue, lastFailure, goal, options } = deployment;
  return {
    ...{ name, state, ready: isReady, targetReplicas, runningReplicas: running.length, queued: queue.queued },
    ongoing: running.reduce((sum, { ongoing }) => sum + ongoing, 0),
    lastFailure: lastFailure?.message,
    goal,
    options,
  };
}
