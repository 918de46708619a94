import { InfermuxError, show } from '../common/errors.js';
import { checkModelId } from '../common/model-id.js';
import { createSearch } from './finder/create-search.js';
import { Finders } from './finder/finders.js';
import type { ModelSearch } from './finder/model-search.js';
import type { ModelCatalog } from './model-catalog.js';
import { ModelLoader } from './model-loader.js';
import type { ModelManagerEnvironment, ModelManagerOptions } from './model-manager-environment.js';
import type { ModelReplica } from './model-replicas.js';
import { PinnedModels } from './pinned-models.js';
import type { RegisteredModel } from './registered-model.js';
import { Registrations } from './registrations/registrations.js';
import { ModelReports } from './reports/model-reports.js';
import type { FollowedModelsEnvironment } from './repository/followed-models.js';
import { ModelRepository } from './repository/model-repository.js';
import type { ModelSettings } from './sources/manifest.js';
import type { CheckedSource } from './sources/model-sources.js';

/** All models of an engine: where they come from, and what becomes of them as replicas come and go. */
export class ManagedModels {
  readonly catalog: ModelCatalog;
  readonly loader: ModelLoader;
  readonly pinned: PinnedModels;
  readonly reports: ModelReports;
  /** Undefined when the models are in no directory. */
  readonly repository: ModelRepository | undefined;
  readonly registrations: Registrations;
  readonly search: ModelSearch;
  readonly #options: ModelManagerOptions;
  readonly #environment: ModelManagerEnvironment;
  #isStarted = false;
  #closed: InfermuxError | undefined;

  constructor(options: ModelManagerOptions, environment: ModelManagerEnvironment) {
    const { catalog, replicas, clock } = environment;
    const { directory, repository, finder } = options;
    this.#options = options;
    this.#environment = environment;
    this.catalog = catalog;
    const log: ModelManagerEnvironment['log'] = (level, fields, message) => environment.log(level, fields, message);
    const loader = new ModelLoader(replicas, clock, repository.retries);
    const pinned = new PinnedModels({
      ...{ catalog, replicas, loader },
      savePins: (pins) => environment.savePins(pins),
      failed: ({ id: model }, { id: replica }, { message: reason }) => {
        if (this.#closed === undefined) log('warn', { model, replica, reason }, 'pinned model could not be loaded');
      },
    });
    const lookOf = (model: RegisteredModel) => (model.isFound ? this.search.lookOf(model) : undefined);
    const weights = () => options.weights();
    const mayRun = (model: RegisteredModel) => this.#mayRun(model);
    const reports = new ModelReports({ catalog, replicas, pinned, clock, weights, lookOf, mayRun });
    [this.loader, this.pinned, this.reports] = [loader, pinned, reports];
    const followable: FollowedModelsEnvironment = { catalog, loader, replicas, pinned, reports, clock, log };
    this.repository = directory === undefined ? undefined : new ModelRepository(directory, repository, followable);
    const finders = new Finders(finder);
    this.search = createSearch(finders, options, environment, followable, {
      mayHave: (target) => repository.lazy && this.repository?.mayHave(target) === true,
      look: async (id) => this.repository?.look(id),
    });
    this.registrations = new Registrations(finders, this.search, repository, followable, {
      save: (sources) => environment.saveRegistered(sources),
      unregistered: (id) => void this.repository?.followed.refresh(id).catch(() => undefined),
    });
  }

  /** Whether the first request for a model loads it. */
  get isLazy(): boolean {
    return this.#options.repository.lazy;
  }

  /** Whether what a look finds is loaded at once. */
  get loadsWhatComes(): boolean {
    return !this.isLazy || this.#options.repository.loadOnStart;
  }

  /**
   * Registers the models of the directory, the named ones and those of the checkpoint, without loading them.
   *
   * @param named by id. @param saved by id or `id@version`; one that is not there any more is told to the log.
   */
  async open(
    named: Readonly<Record<string, CheckedSource>>,
    saved: Readonly<Record<string, CheckedSource>>,
  ): Promise<void> {
    await this.repository?.open();
    await this.registrations.open(named, saved);
  }

  /** Loads the pinned models, and with `loadOnStart` all models. Failures are logged. */
  async loadInitial(): Promise<void> {
    this.#isStarted = true;
    const { loadOnStart } = this.#options.repository;
    await this.search.findInitial(this.pinned.targets, loadOnStart);
    const loads = loadOnStart ? this.catalog.models.map((model) => this.loader.loadByDefault(model)) : [];
    await Promise.allSettled([this.pinned.load(), ...loads]);
  }

  /** Loads pinned models on a replica that has started. */
  replicaRunning(replica: ModelReplica): void {
    // Before that, `loadInitial` loads on all replicas.
    if (!this.#isStarted) return;
    void this.pinned.loadOn(replica);
    this.repository?.followed.replicaRunning();
    this.registrations.replicaRunning();
  }

  replicaLeft(replica: string): void {
    this.reports.forgetReplica(replica);
    this.loader.replicaLeft(replica);
    // Other replicas take over its pinned models until it is replaced.
    if (this.#isStarted && this.#closed === undefined) void this.pinned.load();
  }

  modelLoadFailed(replica: string, key: string, error: InfermuxError, nextTryInMs: number): void {
    this.reports.loadFailed(replica, key, error, nextTryInMs);
    if (error.code !== 'MODEL_LOAD_FAILED') return;
    if (error.retryable) {
      this.repository?.followed.loadFailed();
      this.registrations.loadFailed();
    } else this.search.loadFailed(this.catalog.byKey(key), error);
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` for a model that is not loaded, if `repository.lazy` is false. */
  checkMayRun(model: Pick<RegisteredModel, 'key' | 'id'>): void {
    if (this.#mayRun(model)) return;
    const message = `model ${show(model.id)} is not loaded, and repository.lazy is false: call engine.models.load(${show(model.id)})`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }

  #mayRun({ key }: Pick<RegisteredModel, 'key'>): boolean {
    return this.isLazy || this.loader.isWanted(key);
  }

  /** @throws InfermuxError as `ModelManager.configure`. */
  async configure(id: string, settings: ModelSettings | undefined): Promise<void> {
    const { id: known } = await this.resolve(id);
    if (known !== id) throw new InfermuxError('INVALID_ARGUMENT', `expected a model id, got ${show(id)}`);
    const owner = this.catalog.ownerOf(id);
    if (owner === 'finder') {
      if (settings === undefined) return;
      const message = `model ${show(id)} comes from a finder, which also sets its settings: change them there`;
      throw new InfermuxError('FAILED_PRECONDITION', message);
    }
    await (owner === 'sources' ? this.registrations : this.repository?.followed)?.configure(id, settings);
  }

  /** Looks for the model if it is not known. @throws InfermuxError as {@link ModelCatalog.resolve}. */
  async resolve(target: string): Promise<RegisteredModel> {
    const known = this.catalog.find(target);
    if (known !== undefined) return known;
    checkModelId(target);
    return this.#environment.during(() => this.search.find(target));
  }

  /** @throws InfermuxError `ENGINE_CLOSED`. */
  checkOpen(): void {
    if (this.#closed !== undefined) throw new InfermuxError(this.#closed.code, this.#closed.message);
  }

  close(error: InfermuxError): void {
    this.#closed ??= error;
    this.repository?.followed.close();
    this.registrations.close();
    this.search.close(error);
    this.loader.close(error);
  }
}
