import { checkOptions } from '../common/checks.js';
import { InfermuxError, readingInput, show, toInfermuxError } from '../common/errors.js';
import { checkModelId } from '../common/model-id.js';
import type { ModelFiles } from './deployer/deployed-files.js';
import { isFinder, type ModelFinder } from './finder/finder.js';
import { targetOf } from './finder/target.js';
import { type ResolvedDeployOptions, readDeployOptions, readLoadOptions, within } from './load-options.js';
import type { ManagedModels } from './managed-models.js';
import type { ModelManagerEnvironment } from './model-manager-environment.js';
import {
  type DeployOptions,
  type LoadOptions,
  type ModelReport,
  SYNC_RULES,
  type SyncOptions,
} from './model-manager-options.js';
import { nameOf, type RegisteredModel } from './registered-model.js';
import { inspectModel, type ModelInspection } from './reports/model-inspection.js';
import { required } from './repository/model-repository.js';
import type { SyncReport } from './repository/repository-sync.js';
import { type ModelSettings, readModelSettings } from './sources/manifest.js';
import { checkSource, type ModelSources, readSource } from './sources/model-sources.js';

/** Lists, loads and unloads models, and changes the model repository. `engine.models`. */
export class ModelManager {
  readonly #models: ManagedModels;
  readonly #environment: Pick<ModelManagerEnvironment, 'replicas' | 'clock' | 'log' | 'during'>;

  /** @internal */
  constructor(
    models: ManagedModels,
    environment: Pick<ModelManagerEnvironment, 'replicas' | 'clock' | 'log' | 'during'>,
  ) {
    this.#models = models;
    this.#environment = environment;
  }

  /** Absolute path of the directory of models, into which `deploy` writes; undefined if there is none. */
  get directory(): string | undefined {
    return this.#models.repository?.directory;
  }

  /**
   * Loads a model if it is not loaded, and resolves when it is.
   *
   * @param target a model id or `id@version`.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`, `MODEL_LOAD_FAILED` after the last retry,
   *   `FAILED_PRECONDITION` when there is no place to pin it, `DEADLINE_EXCEEDED`, `REPLICA_FAILED`, `ENGINE_CLOSED`.
   */
  async load(target: string, options: LoadOptions = {}): Promise<ModelReport> {
    this.#models.checkOpen();
    const { wait, timeoutMs, ...order } = readLoadOptions(options, this.#environment.replicas);
    // A known model at once: what is asked for after it comes after it.
    const model = this.#models.catalog.find(target) ?? (await this.#models.resolve(target));
    const loaded = this.#environment.during(() =>
      order.pin ? this.#models.pinned.pin(model, target, order) : this.#models.loader.load(model, order),
    );
    void loaded.catch((cause: unknown) => {
      const fields = { model: model.id, reason: toInfermuxError(cause).message };
      // A caller that waits gets the rejection. Without a wait, or with a time-out, the failure is also logged.
      if (!wait || timeoutMs !== -1) this.#environment.log('warn', fields, 'model could not be loaded');
    });
    if (wait) await within(this.#environment.clock, loaded, timeoutMs, `load of model ${show(target)}`);
    return this.#models.reports.of(model);
  }

  /**
   * Finds a model, by the finder if it is not known, without loading it.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`, `MODEL_LOAD_FAILED`, `ENGINE_CLOSED`.
   */
  async find(target: string): Promise<ModelReport> {
    this.#models.checkOpen();
    return this.#models.reports.of(await this.#models.resolve(target));
  }

  /**
   * Releases a model's sessions in all replicas, after its ongoing loads and the runs that use them. The model stays
   * registered. Pins of `load` are removed. A model that its `model.json` pins is loaded again in each replica that
   * starts.
   *
   * @returns bytes of memory of the released sessions, according to {@link estimateSize}; 0 if there were none. A
   *   session that could not be released is not included; this is logged and counted.
   * @throws InfermuxError `INVALID_ARGUMENT` for an invalid id.
   */
  async unload(target: string): Promise<number> {
    this.#models.checkOpen();
    checkModelId(target);
    const model = this.#models.catalog.find(target);
    if (model === undefined) return 0;
    return this.#environment.during(async () => {
      await this.#models.pinned.unpin(model);
      const bytes = this.#models.reports.estimatedBytes(model);
      return bytes * (await this.#models.loader.unload(model.key, 'unloaded'));
    });
  }

  /** {@link unload} for every model. @returns the bytes of all models together. */
  async unloadAll(): Promise<number> {
    this.#models.checkOpen();
    const freed = await Promise.all(this.#models.catalog.models.map((model) => this.unload(nameOf(model))));
    return freed.reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Reports on all models, version by version, including models that cannot be served. */
  list(): ModelReport[] {
    return this.#models.reports.list();
  }

  /** Reports on one model. @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`. */
  get(target: string): ModelReport {
    return this.#models.reports.get(target);
  }

  /** Bytes of the model's files and external data. @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`. */
  size(target: string): number {
    return this.#models.catalog.resolve(target).bytes;
  }

  /**
   * Estimated bytes of memory of a session of the model. After a load, they are measured. Before, they are the size of
   * the model's files times the memory that models of its kind need for each byte.
   *
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`.
   */
  estimateSize(target: string): number;
  /**
   * The same for a model that is not registered.
   *
   * @param source its `path` or its `bytes`, with settings; its URL; or its bytes.
   * @throws InfermuxError by rejection: `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for a file that cannot be read.
   */
  estimateSize(source: Exclude<ModelSources[string], string>): Promise<number>;
  estimateSize(given: ModelSources[string]): number | Promise<number> {
    const { reports, catalog } = this.#models;
    return typeof given === 'object' && given !== null
      ? this.#estimate(given)
      : reports.estimatedBytes(catalog.resolve(given));
  }

  async #estimate(source: ModelSources[string]): Promise<number> {
    const where = 'the source';
    const checked = readingInput(where, () => checkSource(where, source));
    const model = await readSource(where, checked);
    // No load of it was measured.
    return this.#models.reports.estimatedBytes({ ...model, key: '' });
  }

  /**
   * Resolves when a replica has the model: waits for an ongoing load, and begins one if `repository.lazy` is true.
   *
   * @throws InfermuxError as {@link load}; `FAILED_PRECONDITION` when it is not loaded and `repository.lazy` is false.
   */
  async retrieve(target: string): Promise<ModelReport> {
    return this.#models.reports.of(await this.#retrieve(target));
  }

  /**
   * Finds and loads a model, and returns its inputs and outputs, and whether its requests are batched.
   *
   * @throws InfermuxError as {@link retrieve}.
   */
  async inspect(target: string): Promise<ModelInspection> {
    const model = await this.#retrieve(target);
    return inspectModel(model, this.#models.catalog.metadata(model.key), this.#models.reports.of(model));
  }

  /**
   * Writes a model into the repository, all or nothing, and registers it.
   *
   * @param target a model id, or `id@version` to add a version to it.
   * @param files bytes or texts by name: `model.onnx` and its other files, or `<version>/model.onnx` and so on.
   * @throws InfermuxError `INVALID_ARGUMENT` for names or links that lead out of the model's folder, or files without a
   *   model; `MODEL_ALREADY_EXISTS`; `FAILED_PRECONDITION` when it cannot be written or the models are in no directory;
   *   `MODEL_LOAD_FAILED` if it does not load, `REPLICA_FAILED` if no replica tried: its files are removed again then.
   *   If only a load for `load`, `pin` or `replicas` fails, it stays deployed.
   */
  async deploy(target: string, files: ModelFiles, options: DeployOptions = {}): Promise<ModelReport> {
    this.#models.checkOpen();
    const repository = required(this.#models.repository, 'deploy');
    const deploying = readDeployOptions('deploy', options, this.#environment.replicas);
    return this.#environment.during(async () => {
      const id = await repository.deploy(target, files, deploying.verify);
      return this.#deployed(this.#models.catalog.find(target) === undefined ? id : target, deploying);
    });
  }

  /**
   * Serves all versions of a model with other settings than those of its source or its `model.json`, without changing a
   * file. This applies until the next call, until the model is removed, or until the engine ends.
   *
   * @param settings override those of the source, key by key; undefined: those of the source again.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`; `MODEL_LOAD_FAILED` if it does not load with these
   *   settings, `REPLICA_FAILED` if no replica tried: nothing changes then; `FAILED_PRECONDITION` for a model that
   *   comes from a finder.
   */
  async configure(id: string, settings?: ModelSettings): Promise<ModelReport> {
    this.#models.checkOpen();
    const read = settings === undefined ? undefined : readModelSettings('configure', settings);
    await this.#environment.during(() => this.#models.configure(id, read));
    return this.get(id);
  }

  /**
   * Removes a model from the repository. Accepted requests are answered, then its sessions are released. Its files are
   * deleted when the promise resolves.
   *
   * @param target a model id, or `id@version` for one version of it.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`; `FAILED_PRECONDITION` when it cannot be removed or is
   *   neither in a directory nor from a finder.
   */
  async undeploy(target: string): Promise<void> {
    const { repository, search, catalog } = this.#models;
    this.#models.checkOpen();
    checkModelId(target);
    const owner = catalog.ownerOf(targetOf(target)?.id ?? target);
    if (owner === 'sources') throw registered(target);
    const isFound = owner === 'finder' || (owner === undefined && repository === undefined && search.mayFind(target));
    await this.#environment.during(() => (isFound ? search : required(repository, 'undeploy')).undeploy(target));
  }

  /**
   * Registers a model that is not in a directory: requests can use it from now on. A version that is registered already
   * is replaced. A checkpoint saves models with a path.
   *
   * @param target a model id, or `id@version` to add a version to it.
   * @param source the path or `file:` URL of a file, bytes, one of them with settings, or a finder that is asked when
   *   the model is first wanted.
   * @throws InfermuxError `INVALID_ARGUMENT`; `MODEL_ALREADY_EXISTS` if the id is already used by a model of the
   *   directory or of a finder; `FAILED_PRECONDITION` when the file cannot be read or the checkpoint not be written;
   *   `MODEL_LOAD_FAILED` if the model does not load, `REPLICA_FAILED` if no replica tried: nothing changes then. If
   *   only a load for `load`, `pin` or `replicas` fails, it stays registered.
   */
  async register(
    target: string,
    source: ModelSources[string] | ModelFinder,
    options: DeployOptions = {},
  ): Promise<ModelReport | undefined> {
    this.#models.checkOpen();
    const deploying = readDeployOptions('register', options, this.#environment.replicas);
    return this.#environment.during(async () => {
      const name = await this.#models.registrations.register(target, source, deploying.verify);
      if (isFinder(source) && deploying.load === undefined) return undefined;
      return this.#deployed(name, deploying);
    });
  }

  /**
   * Undoes a registration, or removes a model of the options: accepted requests are answered, then its sessions are
   * released. The next engine has the models of its options again.
   *
   * @param target a model id, or `id@version` for one version of it.
   * @throws InfermuxError `INVALID_ARGUMENT`; `MODEL_NOT_FOUND` for a model that is not registered;
   *   `FAILED_PRECONDITION` when the checkpoint cannot be written.
   */
  async unregister(target: string): Promise<void> {
    this.#models.checkOpen();
    await this.#environment.during(() => this.#models.registrations.unregister(target));
  }

  /**
   * Looks for changes in the directory now. New models are registered. A changed model replaces the old one if it
   * loads. Removed models are unloaded. A model that cannot be served is reported, and its previous version is still
   * served.
   *
   * @throws InfermuxError `FAILED_PRECONDITION` when the models are in no directory, or it cannot be read: then nothing
   *   changes.
   */
  async sync(options: SyncOptions = {}): Promise<SyncReport> {
    this.#models.checkOpen();
    const { wait = true, load = this.#models.loadsWhatComes } = checkOptions('sync', options, SYNC_RULES);
    const { followed } = required(this.#models.repository, 'sync');
    return this.#environment.during(() => followed.sync({ wait, load }));
  }

  async #retrieve(target: string): Promise<RegisteredModel> {
    this.#models.checkOpen();
    const model = await this.#models.resolve(target);
    this.#models.checkMayRun(model);
    await this.#environment.during(() => this.#models.loader.loadByDefault(model));
    return model;
  }

  async #deployed(target: string, { load }: ResolvedDeployOptions): Promise<ModelReport> {
    if (load !== undefined) await this.load(target, load);
    return this.get(target);
  }
}

function registered(target: string): InfermuxError {
  const message = `model ${show(target)} is registered, and its files are not the engine's: call unregister`;
  return new InfermuxError('FAILED_PRECONDITION', message);
}
