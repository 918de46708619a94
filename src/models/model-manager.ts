import { checkOptions, isBoolean, type Rule } from '../common/checks.js';
import { settlesWithin } from '../common/clock.js';
import { InfermuxError, show, toInfermuxError } from '../common/errors.js';
import { checkModelId } from '../common/model-id.js';
import { readLoadOptions } from './load-options.js';
import type { ModelCatalog } from './model-catalog.js';
import { ModelLoader } from './model-loader.js';
import type { ModelManagerEnvironment, ModelManagerOptions } from './model-manager-environment.js';
import type { LoadOptions, ModelReport, SyncOptions } from './model-manager-options.js';
import type { ModelReplica, ModelReplicas } from './model-replicas.js';
import { PinnedModels } from './pinned-models.js';
import { type FoundModel, nameOf, type RegisteredModel } from './registered-model.js';
import { ModelReports } from './reports/model-reports.js';
import type { ModelFiles } from './repository/deployed-files.js';
import { ModelRepository } from './repository/model-repository.js';
import type { SyncReport } from './repository/repository-sync.js';
import type { Pin } from './saved-pins.js';

const SYNC_RULES: Readonly<Record<keyof SyncOptions, Rule>> = { wait: isBoolean, load: isBoolean };

/** Says which models there are, and loads and unloads them. `engine.models`. */
export class ModelManager {
  readonly #options: ModelManagerOptions;
  readonly #environment: ModelManagerEnvironment;
  readonly #catalog: ModelCatalog;
  readonly #replicas: ModelReplicas;
  readonly #loader: ModelLoader;
  readonly #pinned: PinnedModels;
  readonly #reports: ModelReports;
  readonly #repository: ModelRepository | undefined;
  #isStarted = false;
  #closed: InfermuxError | undefined;

  /** @internal */
  constructor(options: ModelManagerOptions, environment: ModelManagerEnvironment) {
    const { catalog, replicas, clock } = environment;
    this.#options = options;
    this.#environment = environment;
    this.#catalog = catalog;
    this.#replicas = replicas;
    const log: ModelManagerEnvironment['log'] = (level, fields, message) => environment.log(level, fields, message);
    const loader = new ModelLoader(replicas, clock);
    this.#loader = loader;
    const pinned = new PinnedModels({
      ...{ catalog, replicas, loader },
      savePins: (pins) => environment.savePins(pins),
      failed: ({ id: model }, { id: replica }, { message: reason }) => {
        if (this.#closed === undefined) log('warn', { model, replica, reason }, 'pinned model could not be loaded');
      },
    });
    this.#pinned = pinned;
    const weights = () => options.weights();
    const reports = new ModelReports({ catalog, replicas, pinned, clock, weights });
    this.#reports = reports;
    const { directory, repository } = options;
    if (directory === undefined) return;
    const surroundings = { catalog, loader, replicas, pinned, reports, clock, log };
    this.#repository = new ModelRepository(directory, repository, surroundings);
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
    const { wait, timeoutMs, ...order } = readLoadOptions(options, this.#replicas);
    const model = this.#catalog.resolve(target);
    const loaded = this.#environment.during(() =>
      order.pin ? this.#pinned.pin(model, target, order) : this.#loader.load(model, order),
    );
    void loaded.catch((cause: unknown) => {
      const fields = { model: model.id, reason: toInfermuxError(cause).message };
      // Whoever waits is told; who does not, or not so long, finds it in the log.
      if (!wait || timeoutMs !== -1) this.#environment.log('warn', fields, 'model could not be loaded');
    });
    if (wait) await this.#within(loaded, timeoutMs, `load of model ${show(target)}`);
    return this.#reports.of(model);
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
      await this.#pinned.unpin(model);
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
    return this.#reports.list();
  }

  /** @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`. */
  get(target: string): ModelReport {
    return this.#reports.get(target);
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
    return this.#reports.estimatedBytes(this.#catalog.resolve(target));
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
    await this.#environment.during(() => this.#loader.loadAnywhere(model));
    return this.#reports.of(model);
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
    const repository = this.#requireRepository('deploy');
    return this.#environment.during(async () => {
      const id = await repository.deploy(target, files);
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
    const repository = this.#requireRepository('undeploy');
    await this.#environment.during(() => repository.undeploy(target));
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
    const repository = this.#requireRepository('sync');
    return this.#environment.during(() => repository.sync({ wait, load }));
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
    await this.#repository?.open();
  }

  /**
   * Loads what is to be there from the start; failures are logged.
   *
   * @internal
   */
  async loadInitial(): Promise<void> {
    this.#isStarted = true;
    const loads = this.#options.repository.loadOnStart
      ? this.#catalog.models.map((model) => this.#loader.loadAnywhere(model))
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
    this.#reports.forgetReplica(replica);
    this.#loader.replicaLeft(replica);
    // What was pinned there is wanted elsewhere, until another takes its place.
    if (this.#isStarted && this.#closed === undefined) void this.#pinned.load();
  }

  /** Nothing is pinned in it any more. @internal */
  async deploymentDeleted(name: string): Promise<void> {
    try {
      await this.#pinned.unpinDeployment(name);
    } catch (cause) {
      const reason = toInfermuxError(cause).message;
      this.#environment.log('warn', { deployment: name, reason }, 'pins of a deleted deployment stay written down');
    }
  }

  /** @internal */
  modelLoaded(replica: string, model: RegisteredModel, memory: number): void {
    this.#reports.loaded(replica, model, memory);
  }

  /** @internal */
  modelLoadFailed(replica: string, key: string, error: InfermuxError, nextTryInMs: number): void {
    this.#reports.loadFailed(replica, key, error, nextTryInMs);
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
    this.#repository?.close();
    this.#loader.close(error);
  }

  /** Those of a checkpoint: they are loaded with what is to be there from the start. @internal */
  restorePins(pins: readonly Pin[]): void {
    this.#pinned.restore(pins);
  }

  #checkOpen(): void {
    if (this.#closed !== undefined) throw new InfermuxError(this.#closed.code, this.#closed.message);
  }

  #requireRepository(call: string): ModelRepository {
    if (this.#repository !== undefined) return this.#repository;
    const message = `${call} needs a directory of models, and options.models names none`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  async #within(work: Promise<void>, timeoutMs: number, what: string): Promise<void> {
    if (timeoutMs === -1) return work;
    if (await settlesWithin(this.#environment.clock, work, timeoutMs)) return;
    throw new InfermuxError('DEADLINE_EXCEEDED', `the ${what} took longer than ${timeoutMs} ms, and goes on`);
  }
}
