import { checkOptions, isBoolean, isInteger, isMilliseconds, type Rule, satisfies } from '../check.js';
import type { Clock } from '../clock.js';
import { InfermuxError, show, toInfermuxError } from '../errors.js';
import { checkModelId } from '../model-id.js';
import type { WeightPlacement } from '../model-reference.js';
import { LoadRecords, type ReplicaModelState } from './load-records.js';
import type { VersionPolicy } from './manifest.js';
import type { CatalogEntry, ModelCatalog } from './model-catalog.js';
import { ModelDeployer, type ModelFiles } from './model-deployer.js';
import type { ModelHost, ModelHosts } from './model-host.js';
import { ModelLoader } from './model-loader.js';
import { type FoundModel, type ModelFormat, nameOf, type RegisteredModel } from './registered-model.js';
import { RepositoryScanner } from './repository-scan.js';
import { RepositorySync, type SyncReport } from './repository-sync.js';
import { SizeEstimator } from './size-estimator.js';

/** How a directory of models is followed, and when models are loaded. */
export interface RepositoryOptions {
  /** Load a model when it is first asked for. Otherwise one that was not loaded is refused. Default true. */
  readonly lazy?: boolean | undefined;
  /** Load every model at the start, in one replica each. Default false. */
  readonly loadOnStart?: boolean | undefined;
  /** Whether `createEngine` waits for what is loaded at the start: pinned models, and all with `loadOnStart`. Default true. */
  readonly waitForInitialLoad?: boolean | undefined;
  /** Milliseconds between two looks at the directory. 0: none after the first, the default. */
  readonly pollMs?: number | undefined;
  /** A model whose files change within so many milliseconds is still being written, and left for later. Default 50. */
  readonly settleMs?: number | undefined;
  /** Which versions are served of a model that does not say so itself. Default `'latest'`. */
  readonly versions?: VersionPolicy | undefined;
}

export type ResolvedRepositoryOptions = {
  readonly [K in keyof RepositoryOptions]-?: NonNullable<RepositoryOptions[K]>;
};

export interface LoadOptions {
  /** How many replicas are to have it. Default 1. */
  readonly replicas?: number | 'all' | undefined;
  /** Never evict it there, and load it again when such a replica is replaced; until it is unloaded. Default false. */
  readonly pin?: boolean | undefined;
  /** Whether the promise waits for the load; otherwise a failure is logged. Default true. */
  readonly wait?: boolean | undefined;
  /** Further attempts after one that failed, the first after 1 s, then after twice as long each. Default 0. */
  readonly retries?: number | undefined;
  /** Milliseconds after which the promise is rejected with `DEADLINE_EXCEEDED`; the load goes on. -1: never, the default. */
  readonly timeoutMs?: number | undefined;
}

export interface SyncOptions {
  /** Whether to wait until all loads and unloads are done. Default true. */
  readonly wait?: boolean | undefined;
  /** Load what is new or has changed. Default: only where models are not loaded lazily. */
  readonly load?: boolean | undefined;
}

/** What is known of one version of a model. A snapshot. */
export interface ModelReport {
  readonly id: string;
  /** Undefined for a model that has a problem and no version that is served. */
  readonly version: number | undefined;
  /** Whether the id alone stands for this version. */
  readonly isDefault: boolean;
  readonly path: string | undefined;
  readonly format: ModelFormat | undefined;
  /** Of its files. */
  readonly bytes: number;
  /** Memory that a session is expected to take. */
  readonly estimatedBytes: number;
  readonly weights: WeightPlacement;
  readonly isPinned: boolean;
  readonly licence: string | undefined;
  /** Why its files as they are now are not served, if so; what is served are those before. */
  readonly problem: string | undefined;
  readonly replicas: readonly ReplicaModelState[];
}

export interface ModelManagerOptions {
  /** Undefined when the models are named one by one. */
  readonly directory: string | undefined;
  readonly repository: ResolvedRepositoryOptions;
  /** Of models that name none. */
  readonly weights: WeightPlacement;
}

export interface ModelManagerEnvironment {
  readonly catalog: ModelCatalog;
  readonly hosts: ModelHosts;
  readonly clock: Clock;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
  /** Keeps the process up as long as the work goes on. */
  during<T>(work: () => Promise<T>): Promise<T>;
}

const LONGEST_BACK_OFF_MS = 64_000;
/** At the start a model may be half copied; a directory that is not followed is looked at again for its sake. */
const UNSETTLED_MS = 1_000;

const SYNC_RULES: Readonly<Record<keyof SyncOptions, Rule>> = { wait: isBoolean, load: isBoolean };

/** Says which models there are, and loads and unloads them. `engine.models`. */
export class ModelManager {
  readonly #options: ModelManagerOptions;
  readonly #environment: ModelManagerEnvironment;
  readonly #catalog: ModelCatalog;
  readonly #hosts: ModelHosts;
  readonly #loader: ModelLoader;
  readonly #records: LoadRecords;
  readonly #sizes: SizeEstimator;
  readonly #sync: RepositorySync | undefined;
  readonly #deployer: ModelDeployer | undefined;
  /** How many replicas are to keep it, by what the caller named it. */
  readonly #pins = new Map<string, number | 'all'>();
  #isOpen = false;
  #isStarted = false;
  #cancelRound: (() => void) | undefined;
  #failedRounds = 0;
  #closed: InfermuxError | undefined;

  /** @internal */
  constructor(options: ModelManagerOptions, environment: ModelManagerEnvironment) {
    const { catalog, hosts, clock } = environment;
    this.#options = options;
    this.#environment = environment;
    this.#catalog = catalog;
    this.#hosts = hosts;
    this.#loader = new ModelLoader(hosts, clock);
    this.#records = new LoadRecords(() => clock.now());
    this.#sizes = new SizeEstimator(options.weights);
    const { directory, repository } = options;
    if (directory === undefined) return;
    const scanner = new RepositoryScanner(directory, repository.versions);
    this.#deployer = new ModelDeployer(scanner.directory);
    this.#sync = new RepositorySync(
      { scanner, settleMs: repository.settleMs },
      { catalog, hosts, clock, loader: this.#loader },
      {
        served: (id, change) => {
          if (this.#isOpen) environment.log('info', { model: id }, `model ${change}`);
          if (this.#isPinned(id)) void this.#loadPinned();
        },
        removed: (id) => environment.log('info', { model: id }, 'model removed'),
        failed: (id, error) => environment.log('warn', { model: id, reason: error.message }, 'model cannot be served'),
        forgotten: (key) => {
          this.#records.forgetModel(key);
          this.#sizes.forget(key);
        },
      },
    );
  }

  /**
   * Loads a model, if it is not loaded, and resolves when it is.
   *
   * @param target a model id or `id@version`.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`, `MODEL_LOAD_FAILED` after the last retry,
   *   `FAILED_PRECONDITION` when there is no place to pin it, `DEADLINE_EXCEEDED`, `REPLICA_FAILED`, `ENGINE_CLOSED`.
   */
  async load(target: string, options: LoadOptions = {}): Promise<ModelReport> {
    this.#checkOpen();
    const { replicas = 1, pin = false, wait = true, retries = 0, timeoutMs = -1 } = this.#readLoadOptions(options);
    const model = this.#catalog.resolve(target);
    const pinnedBefore = this.#pins.get(target);
    if (pin) this.#pins.set(target, replicas);
    const loaded = this.#environment.during(() => this.#loader.load(model, { replicas, pin, retries }));
    const settled = loaded.catch((cause: unknown) => {
      // A pin that found no place is none; one that lost its replica is kept.
      if (pin && toInfermuxError(cause).code === 'FAILED_PRECONDITION') {
        if (pinnedBefore === undefined) this.#pins.delete(target);
        else this.#pins.set(target, pinnedBefore);
      }
      const fields = { model: model.id, reason: toInfermuxError(cause).message };
      // Whoever waits is told; who does not, or not so long, finds it in the log.
      if (!wait || timeoutMs !== -1) this.#environment.log('warn', fields, 'model could not be loaded');
    });
    if (wait) await this.#within(loaded, timeoutMs, `load of model ${show(target)}`);
    else void settled;
    return this.#report(model);
  }

  /**
   * Releases a model's sessions in all replicas, after loads under way and after those who use them; it stays registered.
   * What `load` has pinned is pinned no more; what its `model.json` pins is loaded again where a replica is started.
   *
   * @returns bytes of the model's files, for each session that was released; 0 when there was none.
   * @throws InfermuxError `INVALID_ARGUMENT` for an id that is none.
   */
  async unload(target: string): Promise<number> {
    this.#checkOpen();
    checkModelId(target);
    const model = this.#catalog.find(target);
    if (model === undefined) return 0;
    for (const pinned of this.#pins.keys()) if (this.#catalog.find(pinned) === model) this.#pins.delete(pinned);
    return this.#environment.during(() => this.#loader.unload(model.key, 'unloaded'));
  }

  /** {@link unload} for every model. @returns the bytes of all of them. */
  async unloadAll(): Promise<number> {
    this.#checkOpen();
    const freed = await Promise.all(this.#catalog.models.map((model) => this.unload(nameOf(model))));
    return freed.reduce((sum, bytes) => sum + bytes, 0);
  }

  /** All models, version by version; also those that are there and cannot be served. */
  list(): ModelReport[] {
    return [...this.#catalog.entries].flatMap((entry) =>
      entry.served.length > 0
        ? entry.served.map((model) => this.#report(model))
        : [problemReport(entry, this.#options)],
    );
  }

  /** @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`. */
  get(target: string): ModelReport {
    const model = this.#catalog.find(target);
    if (model !== undefined) return this.#report(model);
    checkModelId(target);
    const entry = this.#catalog.entry(target);
    if (entry !== undefined && entry.served.length === 0) return problemReport(entry, this.#options);
    return this.#report(this.#catalog.resolve(target));
  }

  /** Bytes of the model's files, external data included. @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`. */
  size(target: string): number {
    return this.#catalog.resolve(target).bytes;
  }

  /**
   * Bytes of memory that a session of the model is expected to take: what loads of it have taken, or before the first its
   * files times what models of its kind take for each byte.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`.
   */
  estimateSize(target: string): number {
    return this.#sizes.estimate(this.#catalog.resolve(target));
  }

  /**
   * Resolves when a replica has the model: waits for a load under way, and begins one where models are loaded lazily.
   *
   * @throws InfermuxError as {@link load}; `FAILED_PRECONDITION` when it is not loaded and `repository.lazy` is false.
   */
  async retrieve(target: string): Promise<ModelReport> {
    this.#checkOpen();
    const model = this.#catalog.resolve(target);
    this.checkMayRun(model);
    await this.#environment.during(() => this.#loader.load(model, { replicas: 1, pin: false, retries: 0 }));
    return this.#report(model);
  }

  /**
   * Writes a model into the repository, all or nothing, and registers it.
   *
   * @param target a model id, or `id@version` for one more version of it.
   * @param files bytes or texts by name: `model.onnx` and what belongs to it, or `<version>/model.onnx` and so on.
   * @throws InfermuxError `INVALID_ARGUMENT` for names or links that lead elsewhere, or files that are no model;
   *   `MODEL_ALREADY_EXISTS`; `FAILED_PRECONDITION` when it cannot be written, or the models are in no directory;
   *   `MODEL_LOAD_FAILED` for a version that is to take the place of one in use, and does not load.
   */
  async deploy(target: string, files: ModelFiles): Promise<ModelReport> {
    this.#checkOpen();
    const { deployer, sync } = this.#repository('deploy');
    return this.#environment.during(async () => {
      const id = await deployer.deploy(target, files);
      try {
        await sync.refresh(id);
      } catch (error) {
        await deployer.undeploy(target);
        await sync.refresh(id).catch(() => undefined);
        throw error;
      }
      return this.get(this.#catalog.find(target) === undefined ? id : target);
    });
  }

  /**
   * Takes a model out of the repository: requests that were accepted are answered, then its sessions are released. Its files
   * are gone when the promise resolves.
   *
   * @param target a model id, or `id@version` for one version of it.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`; `FAILED_PRECONDITION` when it cannot be removed, or the
   *   models are in no directory.
   */
  async undeploy(target: string): Promise<void> {
    this.#checkOpen();
    const { deployer, sync } = this.#repository('undeploy');
    const isOnlyOne = this.#catalog.entry(this.#catalog.find(target)?.id ?? '')?.versions.length === 1;
    const whole = isOnlyOne ? (this.#catalog.find(target)?.id ?? target) : target;
    const { id, version } = await deployer.checkPresent(whole);
    await this.#environment.during(() => sync.withdraw(id, version, () => deployer.undeploy(whole)));
  }

  /**
   * Looks at the directory: what is new can be asked for, what has changed takes the place of what was there once it is
   * known to load, what is gone is unloaded. What cannot be served is reported, and what was served of it still is.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when the directory cannot be read: then nothing changes; or there is none.
   */
  async sync(options: SyncOptions = {}): Promise<SyncReport> {
    this.#checkOpen();
    const { wait = true, load = !this.#options.repository.lazy } = checkOptions('sync', options, SYNC_RULES);
    const { sync } = this.#repository('sync');
    return this.#environment.during(() => sync.sync({ wait, load }));
  }

  /**
   * Registers what there is; loads nothing.
   *
   * @internal
   */
  async open(models: readonly FoundModel[]): Promise<void> {
    for (const model of models) {
      const { id, version } = model;
      const served = [this.#catalog.register(model)];
      this.#catalog.put({ id, served, versions: [version], problem: undefined });
    }
    if (this.#sync === undefined) return;
    // A folder that may only be read can be served all the same.
    await this.#deployer?.cleanUp().catch(() => undefined);
    const { unsettled } = await this.#sync.sync({ wait: true, load: false });
    this.#isOpen = true;
    this.#follow(unsettled.length);
  }

  /**
   * Loads what is to be there from the start; failures are logged.
   *
   * @internal
   */
  async loadInitial(): Promise<void> {
    this.#isStarted = true;
    const loads = this.#options.repository.loadOnStart
      ? this.#catalog.models.map((model) => this.#loader.load(model, { replicas: 1, pin: false, retries: 0 }))
      : [];
    await Promise.allSettled([this.#loadPinned(), ...loads]);
  }

  /** @internal */
  replicaRunning(host: ModelHost): void {
    // Those from the start are waited for.
    if (this.#isStarted) void this.#loadPinnedOn(host);
  }

  /** @internal */
  replicaLeft(replica: string): void {
    this.#records.forgetReplica(replica);
    this.#loader.replicaLeft(replica);
  }

  /** @internal */
  modelLoaded(replica: string, model: RegisteredModel, memory: number): void {
    this.#records.loaded(replica, model.key);
    this.#sizes.loaded(model, memory);
  }

  /** @internal */
  modelLoadFailed(replica: string, key: string, error: InfermuxError, nextTryInMs: number): void {
    this.#records.failed(replica, key, error, nextTryInMs);
  }

  /**
   * @throws InfermuxError `FAILED_PRECONDITION` for a model that nobody loaded, where none is loaded lazily.
   * @internal
   */
  checkMayRun(model: RegisteredModel): void {
    if (this.#options.repository.lazy || this.#loader.isWanted(model.key)) return;
    const message = `model ${show(model.id)} is not loaded, and repository.lazy is false: call engine.models.load(${show(model.id)})`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  /** @internal */
  close(error: InfermuxError): void {
    this.#closed ??= error;
    this.#cancelRound?.();
    this.#loader.close(error);
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new InfermuxError(this.#closed.code, this.#closed.message);
  }

  #repository(call: string): { deployer: ModelDeployer; sync: RepositorySync } {
    if (this.#deployer !== undefined && this.#sync !== undefined) return { deployer: this.#deployer, sync: this.#sync };
    const message = `${call} needs a directory of models, and options.models names none`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  #readLoadOptions(options: LoadOptions): LoadOptions {
    const { wanted } = this.#hosts;
    const isCount = isInteger({ lowest: 1, highest: wanted });
    return checkOptions('load', options, {
      replicas: satisfies(
        (value) => value === 'all' || isCount(value) === undefined,
        `'all' or an integer from 1 to ${wanted}, which is how many replicas there are`,
      ),
      pin: isBoolean,
      wait: isBoolean,
      retries: isInteger({ lowest: 0 }),
      timeoutMs: isMilliseconds({ lowest: 0, or: -1 }),
    } satisfies Record<keyof LoadOptions, Rule>);
  }

  async #within(work: Promise<void>, timeoutMs: number, what: string): Promise<void> {
    if (timeoutMs === -1) return work;
    let cancel: () => void = () => undefined;
    const late = new Promise<never>((_, reject) => {
      const error = new InfermuxError('DEADLINE_EXCEEDED', `the ${what} took longer than ${timeoutMs} ms, and goes on`);
      cancel = this.#environment.clock.schedule(() => reject(error), timeoutMs);
    });
    await Promise.race([work, late]).finally(cancel);
  }

  async #loadPinned(): Promise<void> {
    await Promise.all(this.#hosts.running().map((host) => this.#loadPinnedOn(host)));
  }

  async #loadPinnedOn(host: ModelHost): Promise<void> {
    for (const model of this.#pinnedFor(host)) {
      // Another one may have taken its place while those before it were loaded.
      if (this.#catalog.find(nameOf(model)) !== model) continue;
      await this.#loader.pinOn(host, model).catch((cause: unknown) => {
        const fields = { model: model.id, replica: host.id, reason: toInfermuxError(cause).message };
        if (this.#closed === undefined) this.#environment.log('warn', fields, 'pinned model could not be loaded');
      });
    }
  }

  /** Whether one of the id's versions is to be pinned. */
  #isPinned(id: string): boolean {
    const isOwn = this.#catalog.entry(id)?.served.some((model) => model.isPinned) === true;
    return isOwn || [...this.#pins.keys()].some((target) => this.#catalog.find(target)?.id === id);
  }

  /** Models that are to be pinned on the replica and are not. */
  *#pinnedFor(host: ModelHost): IterableIterator<RegisteredModel> {
    const wanted = new Map<RegisteredModel, number | 'all'>();
    for (const model of this.#catalog.models) if (model.isPinned) wanted.set(model, 'all');
    for (const [target, replicas] of this.#pins) {
      const model = this.#catalog.find(target);
      if (model !== undefined) wanted.set(model, wanted.get(model) ?? replicas);
    }
    for (const [model, replicas] of wanted) {
      if (this.#loader.isPinnedOn(model.key, host)) continue;
      if (replicas === 'all' || this.#loader.pins(model.key) < replicas) yield model;
    }
  }

  /** @param unsettled how many models were still being written. */
  #follow(unsettled: number): void {
    const { pollMs } = this.#options.repository;
    if (this.#closed !== undefined || (pollMs === 0 && unsettled === 0 && this.#failedRounds === 0)) return;
    const usualMs = pollMs === 0 ? UNSETTLED_MS : pollMs;
    const delayMs = Math.min(usualMs * 2 ** this.#failedRounds, Math.max(usualMs, LONGEST_BACK_OFF_MS));
    this.#cancelRound?.();
    this.#cancelRound = this.#environment.clock.schedule(() => void this.#round(), delayMs);
  }

  async #round(): Promise<void> {
    let unsettled = 0;
    try {
      const report = await this.#sync?.sync({ wait: false, load: !this.#options.repository.lazy });
      unsettled = report?.unsettled.length ?? 0;
      if (this.#failedRounds > 0) this.#environment.log('info', {}, 'the directory of models can be read again');
      this.#failedRounds = 0;
    } catch (cause) {
      this.#failedRounds += 1;
      const fields = { reason: toInfermuxError(cause).message, failures: this.#failedRounds };
      const message = 'the directory of models cannot be read; what is loaded goes on, and it is tried again';
      if (this.#closed === undefined) this.#environment.log('warn', fields, message);
    }
    this.#follow(unsettled);
  }

  #report(model: RegisteredModel): ModelReport {
    const { id, version, path, format, bytes, licence, key } = model;
    const { problem } = this.#catalog.entry(id) ?? {};
    return {
      ...{ id, version, path, format, bytes, licence },
      isDefault: this.#catalog.find(id) === model,
      estimatedBytes: this.#sizes.estimate(model),
      weights: model.weights ?? this.#options.weights,
      isPinned: model.isPinned || [...this.#pins.keys()].some((target) => this.#catalog.find(target) === model),
      problem: problem?.message,
      replicas: this.#hosts.running().map((host) => this.#records.stateOf(host, key)),
    };
  }
}

function problemReport({ id, problem }: CatalogEntry, { weights }: ModelManagerOptions): ModelReport {
  return {
    ...{ id, version: undefined, isDefault: false, path: undefined, format: undefined, bytes: 0, estimatedBytes: 0 },
    ...{ weights, isPinned: false, licence: undefined, problem: problem?.message, replicas: [] },
  };
}
