import type { Clock } from '../../common/clock.js';
import { InfermuxError, show, toInfermuxError } from '../../common/errors.js';
import type { CatalogEntry, ModelCatalog, ModelOwner } from '../model-catalog.js';
import type { ModelLoader } from '../model-loader.js';
import type { ModelReplicas } from '../model-replicas.js';
import { type FoundModel, nameOf, type RegisteredModel } from '../registered-model.js';
import type { ChangeLog } from './change-log.js';
import { isPassing, ModelTrials, type TrialFailure } from './model-trials.js';
import {
  areSameModels,
  brokenOf,
  inOrder,
  isAsServed,
  isSameRevision,
  predecessorOf,
  problemOf,
  type Standing,
  standsFor,
} from './repository-changes.js';
import type { ScannedModel } from './scanned-model.js';

export interface UpdateOrder {
  /** Whether to wait until all loads and unloads are done. */
  readonly wait: boolean;
  /** Whether to load new and changed models. */
  readonly load: boolean;
  /** The version that is taken out of service: what replaces it is served even if it does not load. */
  readonly withdrawn?: number | undefined;
  /** Whether a model under a new id must be shown to load before it is served, too. */
  readonly verify?: boolean | undefined;
}

export interface SyncObserver {
  /** The model is served for the first time, or with another revision or other versions. */
  served(id: string, change: 'added' | 'changed'): void;
  removed(id: string): void;
  /** Its current files cannot be served. Earlier ones, if any, still are. */
  failed(id: string, error: InfermuxError): void;
  /** It could not be looked at or tried. This says nothing about its files, and it is looked at again. */
  postponed(id: string, error: InfermuxError): void;
  /** It is served, and a load of it failed. */
  notLoaded(id: string, error: InfermuxError): void;
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

/** What became of one model. */
export interface Update {
  readonly change: Change;
  /** Why its current files are not all served, or not loaded. */
  readonly error: InfermuxError | undefined;
  /** Whether the error is final until its files change. If not, a later look may find another result. */
  readonly isSettled: boolean;
}

type Proven = Omit<Update, 'change'> & { readonly served: readonly RegisteredModel[] };

/** Brings the catalog's entries up to date, one model at a time. Calls of {@link apply} for one id must not overlap. */
export class CatalogUpdater {
  readonly #catalog: ModelCatalog;
  readonly #loader: ModelLoader;
  readonly #replicas: ModelReplicas;
  readonly #changes: ChangeLog;
  readonly #observer: SyncObserver;
  readonly #trials: ModelTrials;
  readonly #owner: ModelOwner;
  /** Registered models that could not replace the served ones, by `id@version`. */
  readonly #candidates = new Map<string, RegisteredModel>();
  /** The message that the observer last heard about each id that is not as its files are. */
  readonly #told = new Map<string, string>();

  /** @param owner whose models they are. */
  constructor(
    { catalog, loader, replicas, clock }: CatalogUpdaterEnvironment,
    changes: ChangeLog,
    observer: SyncObserver,
    owner: ModelOwner,
  ) {
    this.#owner = owner;
    this.#catalog = catalog;
    this.#loader = loader;
    this.#replicas = replicas;
    this.#changes = changes;
    this.#observer = observer;
    this.#trials = new ModelTrials(loader, clock);
  }

  /** The change that {@link apply} would make. */
  changeOf(id: string, scanned: ScannedModel | undefined): Change {
    const entry = this.#catalog.entry(id);
    if (this.#isOthers(id)) return 'none';
    if (scanned === undefined) return entry === undefined ? 'none' : 'removed';
    if (entry === undefined) return 'added';
    return isAsServed(entry, scanned) ? 'none' : 'changed';
  }

  /** Whether the id belongs to a model from elsewhere. What a finder has found gives way. */
  #isOthers(id: string): boolean {
    const owner = this.#catalog.ownerOf(id);
    return owner !== undefined && owner !== this.#owner && owner !== 'finder';
  }

  /** Why the model as it was found is not served. */
  problemOf(id: string, scanned: ScannedModel | undefined): InfermuxError | undefined {
    return scanned !== undefined && this.#isOthers(id) ? takenBy(id, this.#catalog.ownerOf(id)) : problemOf(scanned);
  }

  /**
   * Serves, replaces or removes one model.
   *
   * @param scanned the model as it was found; undefined when it is gone.
   */
  async apply(id: string, scanned: ScannedModel | undefined, order: UpdateOrder): Promise<Update> {
    const entry = this.#catalog.entry(id);
    const change = this.changeOf(id, scanned);
    if (this.#isOthers(id)) return this.leave(id, this.problemOf(id, scanned));
    if (scanned === undefined) {
      if (entry !== undefined) await this.#remove(entry, order);
      return settled(change);
    }
    const { versions, problem } = scanned;
    if (problem !== undefined) {
      const served = entry?.served ?? [];
      const [leaving] = served.filter(({ version }) => version === order.withdrawn);
      const staying = served.filter((model) => model !== leaving);
      if (change !== 'none' || leaving !== undefined) this.#put({ id, served: staying, versions, problem });
      if (leaving !== undefined) await this.#retire([leaving], 'unloaded');
    }
    if (problem !== undefined || change === 'none') return this.leave(id, problemOf(scanned));
    const update = await this.#serve(scanned, entry, order);
    return order.load && update.error === undefined ? { ...update, error: await this.#load(id) } : update;
  }

  /** Leaves the model as it is. The observer hears of its problem, if it has one that is new. */
  leave(id: string, problem: InfermuxError | undefined): Update {
    if (problem !== undefined) return this.#failed(id, problem, !isPassing(problem));
    this.#told.delete(id);
    return settled('none');
  }

  async #serve(scanned: ScannedModel, entry: CatalogEntry | undefined, order: UpdateOrder): Promise<Update> {
    const { id, versions, broken = [] } = scanned;
    const current = entry?.served ?? [];
    const found = scanned.served.map(
      (model) => current.find((known) => isSameRevision(known, model)) ?? this.#candidate(model),
    );
    const wanted = inOrder([...found, ...brokenOf(current, broken)]);
    const standing = { ...scanned, served: wanted };
    const before = { ...entry, served: current };
    const proven = await this.#proven(standing, before, order);
    // During a trial another model may have come to have the id.
    if (this.#isOthers(id)) {
      this.#dropCandidatesOf(id);
      return this.leave(id, this.problemOf(id, scanned));
    }
    const { served, isSettled } = proven;
    const error = proven.error ?? problemOf(scanned);
    for (const model of served) {
      if (this.#candidates.get(nameOf(model)) === model) this.#candidates.delete(nameOf(model));
    }
    this.#put({ id, served, versions, standsFor: standsFor(served, standing, before), problem: error });
    const isChanged = !areSameModels(served, current);
    const change = entry === undefined ? 'added' : 'changed';
    if (isChanged) this.#observer.served(id, change);
    const retired = this.#retire(
      current.filter((model) => !served.includes(model)),
      'replaced',
    );
    if (order.wait) await retired;
    if (error !== undefined) return { ...this.#failed(id, error, isSettled), change: isChanged ? change : 'none' };
    this.#told.delete(id);
    return settled(change);
  }

  /**
   * The models to serve. Where something is served under the id, a new model is served only once it has been shown to
   * load; otherwise it is left out, and the one in its place stays.
   */
  async #proven(standing: Standing, before: Standing, { withdrawn, load, verify }: UpdateOrder): Promise<Proven> {
    const [wanted, current] = [standing.served, before.served];
    const served = new Set<RegisteredModel>();
    const failures: TrialFailure[] = [];
    for (const model of wanted) {
      const isProven = verify === true ? current.includes(model) : current.length === 0 || current.includes(model);
      const old = isProven ? undefined : predecessorOf(model, standing, before);
      const how = { isLeaving: old !== undefined && !wanted.includes(old), isKept: load };
      const failure = isProven ? undefined : await this.#trials.whyNotServed(old, model, how);
      const isNeeded = old !== undefined && old.version === withdrawn;
      if (failure === undefined || isNeeded) served.add(model);
      else {
        failures.push(failure);
        if (old !== undefined) served.add(old);
      }
    }
    return {
      served: inOrder([...served]),
      error: failures[0]?.error,
      isSettled: failures.every(({ isSettled }) => isSettled),
    };
  }

  /** Loads the models that are served. @returns why they are not loaded. */
  async #load(id: string): Promise<InfermuxError | undefined> {
    const models = this.#catalog.entry(id)?.served ?? [];
    try {
      await Promise.all(models.map((model) => this.#loader.loadByDefault(model)));
      return undefined;
    } catch (cause) {
      const error = toInfermuxError(cause);
      this.#observer.notLoaded(id, error);
      return error;
    }
  }

  async #remove({ id, served }: CatalogEntry, { wait }: UpdateOrder): Promise<void> {
    this.#catalog.remove(id);
    this.#changes.note(id);
    this.#told.delete(id);
    this.#dropCandidatesOf(id);
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

  #put(entry: CatalogEntry): void {
    this.#catalog.put({ ...entry, owner: this.#owner });
    this.#changes.note(entry.id);
  }

  #failed(id: string, error: InfermuxError, isSettled: boolean): Update {
    if (this.#told.get(id) !== error.message) {
      this.#told.set(id, error.message);
      if (isSettled) this.#observer.failed(id, error);
      else this.#observer.postponed(id, error);
    }
    return { change: 'none', error, isSettled };
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

  #dropCandidatesOf(id: string): void {
    for (const [name, candidate] of this.#candidates) if (candidate.id === id) this.#dropCandidate(name);
  }

  #dropCandidate(name: string): void {
    const candidate = this.#candidates.get(name);
    this.#candidates.delete(name);
    // It may have been loaded when another version failed.
    if (candidate !== undefined) void this.#retire([candidate], 'unloaded');
  }

  #forget(key: string): void {
    this.#trials.forget(key);
    this.#catalog.forget(key);
    this.#replicas.forget(key);
    this.#observer.forgotten(key);
  }
}

function settled(change: Change): Update {
  return { change, error: undefined, isSettled: true };
}

function takenBy(id: string, owner: ModelOwner | undefined): InfermuxError {
  const where = owner === 'directory' ? 'in the directory of models' : 'registered or named in the options';
  return new InfermuxError('MODEL_ALREADY_EXISTS', `model ${show(id)} already exists: it is ${where}`);
}
