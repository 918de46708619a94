import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { checkOptions, isBoolean, isInteger, isMilliseconds, isText, type Rule, satisfies } from '../common/checks.js';
import { type Clock, settlesWithin } from '../common/clock.js';
import { InfermuxError, show, toInfermuxError } from '../common/errors.js';
import { checkModelId } from '../common/model-id.js';
import { SerialQueue } from '../common/serial-queue.js';
import type { WeightPlacement } from '../contracts/model-reference.js';
import { LoadRecords } from './load-records.js';
import type { CatalogEntry, ModelCatalog } from './model-catalog.js';
import { type LoadOrder, ModelLoader } from './model-loader.js';
import type { LoadOptions, ModelReport, ResolvedRepositoryOptions, SyncOptions } from './model-manager-options.js';
import type { ModelReplica, ModelReplicas } from './model-replicas.js';
import { type Pin, PinnedModels } from './pinned-models.js';
import { type FoundModel, nameOf, type RegisteredModel } from './registered-model.js';
import type { ModelFiles } from './repository/deployed-files.js';
import { ModelDeployer } from './repository/model-deployer.js';
import { RepositoryFollower } from './repository/repository-follower.js';
import { RepositoryScanner } from './repository/repository-scanner.js';
import { RepositorySync, type SyncReport } from './repository/repository-sync.js';
import { SizeEstimator } from './size-estimator.js';

export interface ModelManagerOptions {
  /** Undefined when the models are named one by one. */
  readonly directory: string | undefined;
  readonly repository: ResolvedRepositoryOptions;
  /** Of models that name none. */
  weights(): WeightPlacement;
}

export interface ModelManagerEnvironment {
  readonly catalog: ModelCatalog;
  readonly replicas: ModelReplicas;
  readonly clock: Clock;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
  /** Writes down what callers have pinned, before it is acted on. */
  savePins(pins: readonly Pin[]): Promise<void>;
  /** Keeps the process up as long as the work goes on. */
  during<T>(work: () => Promise<T>): Promise<T>;
}

const SYNC_RULES: Readonly<Record<keyof SyncOptions, Rule>> = { wait: isBoolean, load: isBoolean };

/** Says which models there are, and loads and unloads them. `engine.models`. */
export class ModelManager {
  readonly #options: ModelManagerOptions;
  readonly #environment: ModelManagerEnvironment;
  readonly #catalog: ModelCatalog;
  readonly #replicas: ModelReplicas;
  readonly #loader: ModelLoader;
  readonly #records: LoadRecords;
  readonly #sizes: SizeEstimator;
  readonly #sync: RepositorySync | undefined;
  readonly #deployer: ModelDeployer | undefined;
  readonly #follower: RepositoryFollower | undefined;
  readonly #pinned: PinnedModels;
  #isOpen = false;
  #isStarted = false;
  readonly #pinTurns = new SerialQueue();
  #closed: InfermuxError | undefined;

  /** @internal */
  constructor(options: ModelManagerOptions, environment: ModelManagerEnvironment) {
    const { catalog, replicas, clock } = environment;
    this.#options = options;
    this.#environment = environment;
    this.#catalog = catalog;
    this.#replicas = replicas;
    this.#loader = new ModelLoader(replicas, clock);
    this.#records = new LoadRecords(() => clock.now());
    this.#sizes = new SizeEstimator(() => options.weights());
    this.#pinned = new PinnedModels(
      { catalog, replicas, loader: this.#loader },
      (model, replica, { message: reason }) => {
        if (this.#closed === undefined) {
          environment.log('warn', { model: model.id, replica: replica.id, reason }, 'pinned model could not be loaded');
        }
      },
    );
    const { directory, repository } = options;
    if (directory === undefined) return;
    this.#deployer = new ModelDeployer(resolve(directory));
    const sync = this.#createSync(new RepositoryScanner(directory, repository.versions));
    this.#sync = sync;
    const look = () => sync.sync({ wait: false, load: !repository.lazy });
    this.#follower = new RepositoryFollower(repository.pollMs, look, clock, {
      unreadable: ({ message: reason }, failuresInRow) => {
        const message = 'the directory of models cannot be read; what is loaded goes on, and it is tried again';
        environment.log('warn', { reason, failuresInRow }, message);
      },
      readableAgain: () => environment.log('info', {}, 'the directory of models can be read again'),
    });
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
    const {
      deployment = this.#replicas.defaultDeployment(),
      replicas = 1,
      pin = false,
      wait = true,
      ...more
    } = this.#readLoadOptions(options);
    const { retries = 0, timeoutMs = -1 } = more;
    const model = this.#catalog.resolve(target);
    const order = { deployment, replicas, pin, retries };
    const loaded = this.#environment.during(() =>
      pin ? this.#loadPinned(model, target, order) : this.#loader.load(model, order),
    );
    void loaded.catch((cause: unknown) => {
      const fields = { model: model.id, reason: toInfermuxError(cause).message };
      // Whoever waits is told; who does not, or not so long, finds it in the log.
      if (!wait || timeoutMs !== -1) this.#environment.log('warn', fields, 'model could not be loaded');
    });
    if (wait) await this.#within(loaded, timeoutMs, `load of model ${show(target)}`);
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
    return this.#environment.during(async () => {
      await this.#changePins(() => this.#pinned.without(model));
      return this.#loader.unload(model.key, 'unloaded');
    });
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
    await this.#environment.during(() => this.#loader.load(model, this.#once));
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
        // Another version may have a problem of its own.
        if (this.#catalog.find(target) === undefined) {
          await this.#withdraw(target).catch(() => undefined);
          throw error;
        }
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
    this.#repository('undeploy');
    await this.#environment.during(() => this.#withdraw(target));
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
    this.#follower?.follow(unsettled.length);
  }

  /**
   * Loads what is to be there from the start; failures are logged.
   *
   * @internal
   */
  async loadInitial(): Promise<void> {
    this.#isStarted = true;
    const loads = this.#options.repository.loadOnStart
      ? this.#catalog.models.map((model) => this.#loader.load(model, this.#once))
      : [];
    await Promise.allSettled([this.#pinned.load(), ...loads]);
  }

  /** @internal */
  replicaRunning(replica: ModelReplica): void {
    // Those from the start are waited for.
    if (this.#isStarted) void this.#pinned.loadOn(replica);
  }

  /** @internal */
  replicaLeft(replica: string): void {
    this.#records.forgetReplica(replica);
    this.#loader.replicaLeft(replica);
    // What was pinned there is wanted elsewhere, until another takes its place.
    if (this.#isStarted && this.#closed === undefined) void this.#pinned.load();
  }

  /** Nothing is pinned in it any more. @internal */
  async deploymentDeleted(name: string): Promise<void> {
    try {
      await this.#changePins(() => this.#pinned.pins.filter(({ deployment }) => deployment !== name));
    } catch (cause) {
      const reason = toInfermuxError(cause).message;
      this.#environment.log('warn', { deployment: name, reason }, 'pins of a deleted deployment stay written down');
    }
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
    this.#follower?.stop();
    this.#loader.close(error);
  }

  /** Those of a checkpoint: they are loaded with what is to be there from the start. @internal */
  restorePins(pins: readonly Pin[]): void {
    this.#pinned.set(pins);
  }

  /** It is pinned before it is loaded, and if it cannot be loaded it is as it was. */
  async #loadPinned(model: RegisteredModel, target: string, order: LoadOrder): Promise<void> {
    const { deployment, replicas } = order;
    const pin: Pin = { target, deployment, replicas };
    const before = this.#pinned.find(pin);
    await this.#changePins(() => this.#pinned.with(pin, pin));
    try {
      await this.#loader.load(model, order);
    } catch (error) {
      // Somebody else may have pinned it as well since.
      if (this.#pinned.find(pin) === pin) await this.#changePins(() => this.#pinned.with(pin, before));
      throw error;
    }
  }

  /** One change after the other: what is written down is what is acted on. */
  #changePins(change: () => readonly Pin[]): Promise<void> {
    return this.#pinTurns.run(async () => {
      const pins = change();
      if (isDeepStrictEqual(pins, this.#pinned.pins)) return;
      await this.#environment.savePins(pins);
      this.#pinned.set(pins);
    });
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new InfermuxError(this.#closed.code, this.#closed.message);
  }

  #repository(call: string): { deployer: ModelDeployer; sync: RepositorySync } {
    if (this.#deployer !== undefined && this.#sync !== undefined) return { deployer: this.#deployer, sync: this.#sync };
    const message = `${call} needs a directory of models, and options.models names none`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  async #withdraw(target: string): Promise<void> {
    const { deployer, sync } = this.#repository('undeploy');
    const { id, version } = await deployer.checkPresent(target);
    await sync.withdraw(id, version, () => deployer.undeploy(target));
    if (this.#catalog.entry(id) === undefined) await this.#changePins(() => this.#pinned.withoutId(id));
  }

  get #once(): LoadOrder {
    return { deployment: this.#replicas.defaultDeployment(), replicas: 1, pin: false, retries: 0 };
  }

  #readLoadOptions(options: LoadOptions): LoadOptions {
    const read = checkOptions('load', options, {
      deployment: isText,
      replicas: () => undefined,
      pin: isBoolean,
      wait: isBoolean,
      retries: isInteger({ lowest: 0 }),
      timeoutMs: isMilliseconds({ lowest: 0, or: -1 }),
    } satisfies Record<keyof LoadOptions, Rule>);
    const { deployment = this.#replicas.defaultDeployment() } = read;
    const wanted = this.#replicas.wanted(deployment);
    if (wanted === 0) {
      const message = `deployment ${show(deployment)} is to have no replica at present, and so nothing can be loaded there`;
      throw new InfermuxError('FAILED_PRECONDITION', message);
    }
    const isCount = isInteger({ lowest: 1, highest: wanted });
    const expected = `'all' or an integer from 1 to ${wanted}, which is how many replicas there are`;
    const isReplicas = satisfies((value) => value === 'all' || isCount(value) === undefined, expected);
    checkOptions('load', { replicas: read.replicas }, { replicas: isReplicas });
    return read;
  }

  async #within(work: Promise<void>, timeoutMs: number, what: string): Promise<void> {
    if (timeoutMs === -1) return work;
    if (await settlesWithin(this.#environment.clock, work, timeoutMs)) return;
    throw new InfermuxError('DEADLINE_EXCEEDED', `the ${what} took longer than ${timeoutMs} ms, and goes on`);
  }

  #createSync(scanner: RepositoryScanner): RepositorySync {
    const { catalog, replicas, clock, log } = this.#environment;
    const { settleMs } = this.#options.repository;
    const environment = { catalog, replicas, clock, loader: this.#loader };
    return new RepositorySync({ scanner, settleMs }, environment, {
      served: (id, change) => {
        if (this.#isOpen) log('info', { model: id }, `model ${change}`);
        if (this.#pinned.hasId(id)) void this.#pinned.load();
      },
      removed: (id) => log('info', { model: id }, 'model removed'),
      failed: (id, { message: reason }) => log('warn', { model: id, reason }, 'model cannot be served'),
      forgotten: (key) => {
        this.#records.forgetModel(key);
        this.#sizes.forget(key);
      },
    });
  }

  #report(model: RegisteredModel): ModelReport {
    const { id, version, path, format, bytes, licence, key } = model;
    const { problem } = this.#catalog.entry(id) ?? {};
    return {
      ...{ id, version, path, format, bytes, licence },
      isDefault: this.#catalog.find(id) === model,
      estimatedBytes: this.#sizes.estimate(model),
      weights: model.weights ?? this.#options.weights(),
      isPinned: this.#pinned.has(model),
      problem: problem?.message,
      replicas: this.#replicas.running().map((replica) => this.#records.stateOf(replica, key)),
    };
  }
}

function problemReport({ id, problem }: CatalogEntry, { weights }: ModelManagerOptions): ModelReport {
  return {
    ...{ id, version: undefined, isDefault: false, path: undefined, format: undefined, bytes: 0, estimatedBytes: 0 },
    ...{ weights: weights(), isPinned: false, licence: undefined, problem: problem?.message, replicas: [] },
  };
}
