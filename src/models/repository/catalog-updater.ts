import type { Clock } from '../../common/clock.js';
import { type InfermuxError, toInfermuxError } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import type { CatalogEntry, ModelCatalog } from '../model-catalog.js';
import type { ModelLoader } from '../model-loader.js';
import type { ModelReplicas } from '../model-replicas.js';
import { type FoundModel, nameOf, type RegisteredModel } from '../registered-model.js';
import type { ChangeLog } from './change-log.js';
import { areSameModels, isAsServed, isSameRevision, predecessorOf } from './repository-changes.js';
import type { ScannedModel } from './repository-scanner.js';

export interface UpdateOrder {
  /** Whether to wait until all loads and unloads are done. */
  readonly wait: boolean;
  /** Whether to load new and changed models. */
  readonly load: boolean;
  /** Whether to serve the found models even if they do not load. */
  readonly force?: boolean;
}

export interface SyncObserver {
  /** The model is served for the first time, or with another revision or other versions. */
  served(id: string, change: 'added' | 'changed'): void;
  removed(id: string): void;
  failed(id: string, error: InfermuxError): void;
  /** No request names the model any more, and its sessions are gone. */
  forgotten(key: string): void;
}

export interface CatalogUpdaterEnvironment {
  readonly catalog: ModelCatalog;
  readonly loader: ModelLoader;
  readonly replicas: ModelReplicas;
  readonly clock: Clock;
}

type Change = 'added' | 'changed' | 'removed' | 'none';

/** Brings the catalog's entries up to date, one model at a time. Calls of {@link apply} for one id must not overlap. */
export class CatalogUpdater {
  readonly #catalog: ModelCatalog;
  readonly #loader: ModelLoader;
  readonly #replicas: ModelReplicas;
  readonly #changes: ChangeLog;
  readonly #observer: SyncObserver;
  readonly #failures: FailureMemory;
  /** Registered models that could not replace the served ones, by `id@version`. */
  readonly #candidates = new Map<string, RegisteredModel>();

  constructor(
    { catalog, loader, replicas, clock }: CatalogUpdaterEnvironment,
    changes: ChangeLog,
    observer: SyncObserver,
  ) {
    this.#catalog = catalog;
    this.#loader = loader;
    this.#replicas = replicas;
    this.#changes = changes;
    this.#observer = observer;
    this.#failures = new FailureMemory(() => clock.now());
  }

  /** The change that {@link apply} would make. */
  changeOf(id: string, scanned: ScannedModel | undefined): Change {
    const entry = this.#catalog.entry(id);
    if (scanned === undefined) return entry === undefined ? 'none' : 'removed';
    if (entry === undefined) return 'added';
    return isAsServed(entry, scanned) ? 'none' : 'changed';
  }

  /**
   * Serves, replaces or removes one model.
   *
   * @param scanned the model as it was found; undefined when it is gone.
   * @throws InfermuxError why it cannot be served as it is now.
   */
  async apply(id: string, scanned: ScannedModel | undefined, order: UpdateOrder): Promise<Change> {
    const entry = this.#catalog.entry(id);
    const change = this.changeOf(id, scanned);
    if (scanned === undefined) {
      if (entry !== undefined) await this.#remove(entry, order);
      return change;
    }
    if (scanned.problem !== undefined) throw this.#fail(scanned, entry?.served ?? [], scanned.problem);
    if (change === 'none') return change;
    await this.#serve(scanned, entry, order);
    if (order.load) await this.#load(id);
    return change;
  }

  async #serve(scanned: ScannedModel, entry: CatalogEntry | undefined, order: UpdateOrder): Promise<void> {
    const { id, versions } = scanned;
    const current = entry?.served ?? [];
    const wanted = scanned.served.map(
      (found) => current.find((model) => isSameRevision(model, found)) ?? this.#candidate(found),
    );
    const { served, failure } = await this.#proven(wanted, current, order.force === true);
    for (const model of served) {
      if (this.#candidates.get(nameOf(model)) === model) this.#candidates.delete(nameOf(model));
    }
    if (failure !== undefined) this.#fail(scanned, served, failure);
    else this.#catalog.put({ id, served, versions, problem: undefined });
    this.#changes.note(id);
    if (!areSameModels(served, current)) this.#observer.served(id, entry === undefined ? 'added' : 'changed');
    const retired = this.#retire(
      current.filter((model) => !served.includes(model)),
      'replaced',
    );
    if (order.wait) await retired;
    if (failure !== undefined) throw failure;
  }

  /** The models to serve. Unless forced, a model that does not load is left out, and the one in its place stays. */
  async #proven(
    wanted: readonly RegisteredModel[],
    current: readonly RegisteredModel[],
    force: boolean,
  ): Promise<{ served: readonly RegisteredModel[]; failure: InfermuxError | undefined }> {
    const served = new Set<RegisteredModel>();
    let failure: InfermuxError | undefined;
    for (const model of wanted) {
      const old = current.includes(model) ? undefined : predecessorOf(model, wanted, current);
      const isInUse = old !== undefined && this.#catalog.metadata(old.key) !== undefined;
      const error = isInUse ? await this.#whyNotReplaced(old, model) : undefined;
      if (!force) failure ??= error;
      served.add(error === undefined || force || old === undefined ? model : old);
    }
    return { served: [...served].sort((left, right) => left.version - right.version), failure };
  }

  async #whyNotReplaced(old: RegisteredModel, model: RegisteredModel): Promise<InfermuxError | undefined> {
    const remembered = this.#failures.recall(model.key);
    if (remembered !== undefined) return remembered;
    try {
      await this.#loader.replace(old, model);
      this.#failures.forget(model.key);
      return undefined;
    } catch (cause) {
      const error = toInfermuxError(cause);
      this.#failures.record(model.key, error);
      return error;
    }
  }

  async #load(id: string): Promise<void> {
    const models = this.#catalog.entry(id)?.served ?? [];
    try {
      await Promise.all(models.map((model) => this.#loader.loadByDefault(model)));
    } catch (cause) {
      const error = toInfermuxError(cause);
      this.#observer.failed(id, error);
      throw error;
    }
  }

  async #remove({ id, served }: CatalogEntry, { wait }: UpdateOrder): Promise<void> {
    this.#catalog.remove(id);
    this.#changes.note(id);
    for (const [name, candidate] of this.#candidates) if (candidate.id === id) this.#dropCandidate(name);
    this.#observer.removed(id);
    const retired = this.#retire(served, 'unloaded');
    if (wait) await retired;
  }

  /** Releases the models' sessions after their accepted requests are answered. */
  async #retire(models: readonly RegisteredModel[], reason: 'unloaded' | 'replaced'): Promise<void> {
    await Promise.all(
      models.map(async ({ key }) => {
        await this.#replicas.untilUnused(key);
        await this.#loader.unload(key, reason);
        this.#forget(key);
      }),
    );
  }

  /** Notes why the found model is not served. The observer hears of each reason once. */
  #fail({ id, versions }: ScannedModel, served: readonly RegisteredModel[], error: InfermuxError): InfermuxError {
    const { problem } = this.#catalog.entry(id) ?? {};
    this.#catalog.put({ id, served, versions, problem: error });
    this.#changes.note(id);
    if (problem?.message !== error.message) this.#observer.failed(id, error);
    return error;
  }

  /** Registers a found model, once as long as its files stay the same. So a failed load of it is remembered. */
  #candidate(found: FoundModel): RegisteredModel {
    const name = nameOf(found);
    const known = this.#candidates.get(name);
    if (known !== undefined && isSameRevision(known, found)) return known;
    this.#dropCandidate(name);
    const model = this.#catalog.register(found);
    this.#candidates.set(name, model);
    return model;
  }

  #dropCandidate(name: string): void {
    const candidate = this.#candidates.get(name);
    this.#candidates.delete(name);
    // It may have been loaded when another version failed.
    if (candidate !== undefined) void this.#retire([candidate], 'unloaded');
  }

  #forget(key: string): void {
    this.#failures.forget(key);
    this.#catalog.forget(key);
    this.#replicas.forget(key);
    this.#observer.forgotten(key);
  }
}
