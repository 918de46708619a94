import { checkOptions } from '../common/checks.js';
import { InfermuxError, show, toInfermuxError } from '../common/errors.js';
import { checkModelId } from '../common/model-id.js';
import { createSearch } from './finder/create-search.js';
import type { ModelSearch } from './finder/model-search.js';
import { isFoundIn } from './finder/target.js';
import { readLoadOptions, within } from './load-options.js';
import type { ModelCatalog } from './model-catalog.js';
import { ModelLoader } from './model-loader.js';
import type { ModelManagerEnvironment, ModelManagerOptions } from './model-manager-environment.js';
import { type LoadOptions, type ModelReport, SYNC_RULES, type SyncOptions } from './model-manager-options.js';
import type { ModelReplica } from './model-replicas.js';
import { PinnedModels } from './pinned-models.js';
import { nameOf, type RegisteredModel } from './registered-model.js';
import { inspectModel, type ModelInspection } from './reports/model-inspection.js';
import { ModelReports } from './reports/model-reports.js';
import type { ModelFiles } from './repository/deployed-files.js';
import { FollowedModels, type FollowedModelsEnvironment } from './repository/followed-models.js';
import { ModelRepository, required } from './repository/model-repository.js';
import type { SyncReport } from './repository/repository-sync.js';
import type { NamedModels } from './sources/named-models.js';

/** Lists, loads and unloads models, and changes the model repository. `engine.models`. */
export class ModelManager {
  readonly #options: ModelManagerOptions;
  readonly #environment: ModelManagerEnvironment;
  readonly #catalog: ModelCatalog;
  readonly #loader: ModelLoader;
  /** @internal */
  readonly pinned: PinnedModels;
  /** @internal */
  readonly reports: ModelReports;
  readonly #followable: FollowedModelsEnvironment;
  #followed: FollowedModels | undefined;
  readonly #repository: ModelRepository | undefined;
  /** Undefined without a finder. @internal */
  readonly search: ModelSearch | undefined;
  #isStarted = false;
  #closed: InfermuxError | undefined;

  /** @internal */
  constructor(options: ModelManagerOptions, environment: ModelManagerEnvironment) {
    const { catalog, replicas, clock } = environment;
    this.#options = options;
    this.#environment = environment;
    this.#catalog = catalog;
    const log: ModelManagerEnvironment['log'] = (level, fields, message) => environment.log(level, fields, message);
    const loader = new ModelLoader(replicas, clock);
    const pinned = new PinnedModels({
      ...{ catalog, replicas, loader },
      savePins: (pins) => environment.savePins(pins),
      failed: ({ id: model }, { id: replica }, { message: reason }) => {
        if (this.#closed === undefined) log('warn', { model, replica, reason }, 'pinned model could not be loaded');
      },
    });
    const lookOf = (model: RegisteredModel) => (model.isFound ? this.search?.lookOf(model) : undefined);
    const reports = new ModelReports({ catalog, replicas, pinned, clock, weights: () => options.weights(), lookOf });
    [this.#loader, this.pinned, this.reports] = [loader, pinned, reports];
    this.#followable = { catalog, loader, replicas, pinned, reports, clock, log };
    this.search = createSearch(options, environment, this.#followable);
    if (options.directory === undefined) return;
    this.#repository = new ModelRepository(options.directory, options.repository, this.#followable);
    this.#followed = this.#repository.followed;
  }

  /**
   * Loads a model if it is not loaded, and resolves when it is.
   *
   * @param target a model id or `id@version`.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`, `MODEL_LOAD_FAILED` after the last retry,
   *   `FAILED_PRECONDITION` when there is no place to pin it, `DEADLINE_EXCEEDED`, `REPLICA_FAILED`, `ENGINE_CLOSED`.
   */
  async load(target: string, options: LoadOptions = {}): Promise<ModelReport> {
    this.#checkOpen();
    const { wait, timeoutMs, ...order } = readLoadOptions(options, this.#environment.replicas);
    // A known model at once: what is asked for after it comes after it.
    const model = this.#catalog.find(target) ?? (await this.resolve(target));
    const loaded = this.#environment.during(() =>
      order.pin ? this.pinned.pin(model, target, order) : this.#loader.load(model, order),
    );
    void loaded.catch((cause: unknown) => {
      const fields = { model: model.id, reason: toInfermuxError(cause).message };
      // A caller that waits gets the rejection. Without a wait, or with a time-out, the failure is also logged.
      if (!wait || timeoutMs !== -1) this.#environment.log('warn', fields, 'model could not be loaded');
    });
    if (wait) await within(this.#environment.clock, loaded, timeoutMs, `load of model ${show(target)}`);
    return this.reports.of(model);
  }

  /**
   * Finds a model, by the finder if it is not known, without loading it.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`, `MODEL_LOAD_FAILED`, `ENGINE_CLOSED`.
   */
  async find(target: string): Promise<ModelReport> {
    this.#checkOpen();
    return this.reports.of(await this.resolve(target));
  }

  /**
   * Releases a model's sessions in all replicas, after its ongoing loads and the runs that use them. The model stays
   * registered. Pins of `load` are removed. A model that its `model.json` pins is loaded again in each replica that
   * starts.
   *
   * @returns bytes of the model's files for each released session; 0 when there was none.
   * @throws InfermuxError `INVALID_ARGUMENT` for an invalid id.
   */
  async unload(target: string): Promise<number> {
    this.#checkOpen();
    checkModelId(target);
    const model = this.#catalog.find(target);
    if (model === undefined) return 0;
    return this.#environment.during(async () => {
      await this.pinned.unpin(model);
      return this.#loader.unload(model.key, 'unloaded');
    });
  }

  /** {@link unload} for every model. @returns the bytes of all models together. */
  async unloadAll(): Promise<number> {
    this.#checkOpen();
    const freed = await Promise.all(this.#catalog.models.map((model) => this.unload(nameOf(model))));
    return freed.reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Reports on all models, version by version, including models that cannot be served. */
  list(): ModelReport[] {
    return this.reports.list();
  }

  /** Reports on one model. @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`. */
  get(target: string): ModelReport {
    return this.reports.get(target);
  }

  /** Bytes of the model's files and external data. @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`. */
  size(target: string): number {
    return this.#catalog.resolve(target).bytes;
  }

  /**
   * Bytes of memory that a session of the model is expected to take. After a load it is what loads took. Before, it is
   * the size of the model's files times the memory that models of its kind take for each byte.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`.
   */
  estimateSize(target: string): number {
    return this.reports.estimatedBytes(this.#catalog.resolve(target));
  }

  /**
   * Resolves when a replica has the model: waits for an ongoing load, and begins one if `repository.lazy` is true.
   *
   * @throws InfermuxError as {@link load}; `FAILED_PRECONDITION` when it is not loaded and `repository.lazy` is false.
   */
  async retrieve(target: string): Promise<ModelReport> {
    return this.reports.of(await this.#retrieve(target));
  }

  /**
   * Loads a model as {@link retrieve} does, and tells its inputs and outputs, and whether its requests are batched.
   *
   * @throws InfermuxError as {@link retrieve}.
   */
  async inspect(target: string): Promise<ModelInspection> {
    const model = await this.#retrieve(target);
    return inspectModel(model, this.#catalog.metadata(model.key), this.reports.of(model));
  }

  /**
   * Writes a model into the repository, all or nothing, and registers it.
   *
   * @param target a model id, or `id@version` to add a version to it.
   * @param files bytes or texts by name: `model.onnx` and its other files, or `<version>/model.onnx` and so on.
   * @throws InfermuxError `INVALID_ARGUMENT` for names or links that lead out of the model's folder, or files without a
   *   model; `MODEL_ALREADY_EXISTS`; `FAILED_PRECONDITION` when it cannot be written or the models are in no directory;
   *   if another version is served, `MODEL_LOAD_FAILED` when this one does not load, `REPLICA_FAILED` when none tried it.
   */
  async deploy(target: string, files: ModelFiles): Promise<ModelReport> {
    this.#checkOpen();
    const repository = required(this.#repository, 'deploy');
    return this.#environment.during(async () => {
      const id = await repository.deploy(target, files);
      return this.get(this.#catalog.find(target) === undefined ? id : target);
    });
  }

  /**
   * Takes a model out of the repository. Accepted requests are answered, then its sessions are released. Its files are
   * gone when the promise resolves.
   *
   * @param target a model id, or `id@version` for one version of it.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`; `FAILED_PRECONDITION` when it cannot be removed or is
   *   neither in a directory nor from a finder.
   */
  async undeploy(target: string): Promise<void> {
    this.#checkOpen();
    checkModelId(target);
    const isFound = isFoundIn(this.#catalog, target) ?? this.#repository === undefined;
    const owner = (isFound ? this.search : undefined) ?? required(this.#repository, 'undeploy');
    await this.#environment.during(() => owner.undeploy(target));
  }

  /**
   * Looks at the directory now. New models are registered. A changed model replaces the old one once it is known to
   * load. Removed models are unloaded. A model that cannot be served is reported, and the one before is still served.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when the models are in no directory, or it cannot be read: then nothing
   *   changes.
   */
  async sync(options: SyncOptions = {}): Promise<SyncReport> {
    this.#checkOpen();
    const { wait = true, load = !this.#options.repository.lazy } = checkOptions('sync', options, SYNC_RULES);
    const { followed } = required(this.#repository, 'sync');
    return this.#environment.during(() => followed.sync({ wait, load }));
  }

  /** Registers the named models and those of the directory, without loading them. @internal */
  async open(named: NamedModels | undefined): Promise<void> {
    await this.#repository?.open();
    if (named === undefined) return;
    // They are looked at again only when a load finds another file.
    this.#followed = new FollowedModels(named, { ...this.#options.repository, pollMs: 0 }, this.#followable);
    await this.#followed.open(named.found);
  }

  /** Loads the pinned models, and with `loadOnStart` all models. Failures are logged. @internal */
  async loadInitial(): Promise<void> {
    this.#isStarted = true;
    const { loadOnStart } = this.#options.repository;
    await this.search?.findInitial(this.pinned.targets, loadOnStart);
    const loads = loadOnStart ? this.#catalog.models.map((model) => this.#loader.loadByDefault(model)) : [];
    await Promise.allSettled([this.pinned.load(), ...loads]);
  }

  /** Loads pinned models on a replica that has started. @internal */
  replicaRunning(replica: ModelReplica): void {
    // Before that, `loadInitial` loads on all replicas.
    if (!this.#isStarted) return;
    void this.pinned.loadOn(replica);
    this.#followed?.replicaRunning();
  }

  /** @internal */
  replicaLeft(replica: string): void {
    this.reports.forgetReplica(replica);
    this.#loader.replicaLeft(replica);
    // Other replicas take over its pinned models until it is replaced.
    if (this.#isStarted && this.#closed === undefined) void this.pinned.load();
  }

  /** @internal */
  modelLoadFailed(replica: string, key: string, error: InfermuxError, nextTryInMs: number): void {
    this.reports.loadFailed(replica, key, error, nextTryInMs);
    if (error.code !== 'MODEL_LOAD_FAILED') return;
    if (error.retryable) this.#followed?.loadFailed();
    else this.search?.loadFailed(this.#catalog.byKey(key), error);
  }

  /**
   * @throws InfermuxError `FAILED_PRECONDITION` for a model that is not loaded, if `repository.lazy` is false.
   * @internal
   */
  checkMayRun(model: Pick<RegisteredModel, 'key' | 'id'>): void {
    if (this.#options.repository.lazy || this.#loader.isWanted(model.key)) return;
    const message = `model ${show(model.id)} is not loaded, and repository.lazy is false: call engine.models.load(${show(model.id)})`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  /** @internal */
  close(error: InfermuxError): void {
    this.#closed ??= error;
    this.#followed?.close();
    this.search?.close(error);
    this.#loader.close(error);
  }

  /** Finds the model if it is not known. @throws InfermuxError as {@link ModelCatalog.resolve}. @internal */
  async resolve(target: string): Promise<RegisteredModel> {
    const { search } = this;
    if (search === undefined || this.#catalog.find(target) !== undefined) return this.#catalog.resolve(target);
    checkModelId(target);
    return this.#environment.during(() => search.find(target));
  }

  async #retrieve(target: string): Promise<RegisteredModel> {
    this.#checkOpen();
    const model = await this.resolve(target);
    this.checkMayRun(model);
    await this.#environment.during(() => this.#loader.loadByDefault(model));
    return model;
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new InfermuxError(this.#closed.code, this.#closed.message);
  }
}
