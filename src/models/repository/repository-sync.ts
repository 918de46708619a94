import type { Clock } from '../../common/clock.js';
import { type InfermuxError, toInfermuxError } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import { KeyedTasks } from '../keyed-tasks.js';
import type { CatalogEntry, ModelCatalog } from '../model-catalog.js';
import type { ModelLoader } from '../model-loader.js';
import type { ModelReplicas } from '../model-replicas.js';
import { type FoundModel, nameOf, type RegisteredModel } from '../registered-model.js';
import { areSameModels, isAsServed, isSameRevision, predecessorOf, unsettledOf } from './repository-changes.js';
import type { RepositoryScanner, ScannedModel } from './repository-scanner.js';

/** What a look at the directory came to: ids of models. */
export interface SyncReport {
  readonly added: readonly string[];
  readonly changed: readonly string[];
  readonly removed: readonly string[];
  /** Still being written, or still being changed for an earlier look: left for the next one. */
  readonly unsettled: readonly string[];
  /** Models that cannot be served as they are now; what was served of them before still is. */
  readonly failed: readonly { readonly id: string; readonly error: InfermuxError }[];
}

export interface SyncOrder {
  /** Whether to wait until all loads and unloads are done. */
  readonly wait: boolean;
  /** Whether to load what is new or has changed. */
  readonly load: boolean;
}

export interface SyncObserver {
  /** The model is served, or is served in another revision or other versions. */
  served(id: string, change: 'added' | 'changed'): void;
  removed(id: string): void;
  failed(id: string, error: InfermuxError): void;
  /** Nobody asks for the model any more, and its sessions are gone. */
  forgotten(key: string): void;
}

interface Applied extends SyncOrder {
  /** Whether to serve what is there though it does not load. */
  readonly force?: boolean;
}

type Change = 'added' | 'changed' | 'removed' | 'none';

/** Makes the catalog follow a directory. Each model is changed by itself: one that is slow holds up no other. */
export class RepositorySync {
  readonly #scanner: RepositoryScanner;
  readonly #settleMs: number;
  readonly #catalog: ModelCatalog;
  readonly #loader: ModelLoader;
  readonly #replicas: ModelReplicas;
  readonly #clock: Clock;
  readonly #observer: SyncObserver;
  readonly #failures: FailureMemory;
  /** What is being done to each model, by id. */
  readonly #turns = new KeyedTasks();
  /** When each model was last changed, in changes. */
  readonly #changedAt = new Map<string, number>();
  #sequence = 0;
  /** Looks under way. */
  #looks = 0;
  /** Models that are registered and could not take the place of those that are served. */
  readonly #candidates = new Map<string, RegisteredModel>();

  constructor(
    { scanner, settleMs }: { scanner: RepositoryScanner; settleMs: number },
    {
      catalog,
      loader,
      replicas,
      clock,
    }: { catalog: ModelCatalog; loader: ModelLoader; replicas: ModelReplicas; clock: Clock },
    observer: SyncObserver,
  ) {
    this.#scanner = scanner;
    this.#settleMs = settleMs;
    this.#catalog = catalog;
    this.#loader = loader;
    this.#replicas = replicas;
    this.#clock = clock;
    this.#observer = observer;
    this.#failures = new FailureMemory(() => clock.now());
  }

  /** @throws InfermuxError `FAILED_PRECONDITION` when the directory cannot be read: then nothing has changed. */
  async sync(order: SyncOrder): Promise<SyncReport> {
    this.#looks += 1;
    try {
      return await this.#look(order);
    } finally {
      this.#looks -= 1;
      // Nobody needs to know any more what happened meanwhile.
      if (this.#looks === 0 && this.#turns.size === 0) this.#changedAt.clear();
    }
  }

  async #look(order: SyncOrder): Promise<SyncReport> {
    const began = this.#sequence;
    const { models, unsettled } = await this.#scanSettled();
    const report = { added: [] as string[], changed: [] as string[], removed: [] as string[] };
    const failed: { id: string; error: InfermuxError }[] = [];
    const ids = new Set([...models.keys(), ...[...this.#catalog.entries].map(({ id }) => id)]);
    const work = [...ids].map(async (id) => {
      if (unsettled.has(id)) return;
      const { problem } = models.get(id) ?? {};
      if (!this.#turns.has(id) && this.#changeOf(id, models.get(id)) === 'none') {
        if (problem !== undefined) failed.push({ id, error: problem });
        return;
      }
      if (!order.wait && this.#turns.has(id)) {
        unsettled.add(id);
        return;
      }
      try {
        const change = await this.#inTurn(id, async () => this.#apply(id, await this.#since(began, id, models), order));
        if (change !== 'none') report[change].push(id);
      } catch (cause) {
        failed.push({ id, error: toInfermuxError(cause) });
      }
    });
    if (order.wait) await Promise.all(work);
    return { ...report, unsettled: [...unsettled], failed };
  }

  /**
   * Brings one model up to date at once: whoever asks knows that its files are whole.
   *
   * @throws InfermuxError why it cannot be served as it is now.
   */
  async refresh(id: string): Promise<void> {
    await this.#inTurn(id, async () => {
      this.#noteChange(id);
      await this.#apply(id, await this.#scanOne(id), { wait: true, load: false });
    });
  }

  /**
   * Takes a model, or one version of it, out of service: when its accepted requests are answered and its sessions are gone,
   * its files are removed. Where that fails, it is served again.
   */
  async withdraw(id: string, version: number | undefined, removeFiles: () => Promise<void>): Promise<void> {
    try {
      await this.#inTurn(id, async () => {
        const rest = version === undefined ? undefined : await this.#scanOne(id, version);
        const order = { wait: true, load: false, force: true };
        await this.#apply(id, rest?.problem === undefined ? rest : undefined, order);
        await removeFiles();
        // What others have seen of it by now is out of date, also where it was not served.
        this.#noteChange(id);
      });
    } finally {
      await this.refresh(id).catch(() => undefined);
    }
  }

  /** What is done to one model is done one after the other. */
  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    return this.#turns.add(id, (this.#turns.get(id) ?? Promise.resolve()).then(work));
  }

  /** What a look that began then found; if the model was changed meanwhile, what is there now. */
  async #since(
    began: number,
    id: string,
    models: ReadonlyMap<string, ScannedModel>,
  ): Promise<ScannedModel | undefined> {
    return (this.#changedAt.get(id) ?? 0) > began ? this.#scanOne(id) : models.get(id);
  }

  async #scanOne(id: string, except?: number): Promise<ScannedModel | undefined> {
    return (await this.#scanner.scan(id, except)).models.get(id);
  }

  #noteChange(id: string): void {
    this.#sequence += 1;
    this.#changedAt.set(id, this.#sequence);
  }

  /** What is still being written is not there yet, or is as it was. */
  async #scanSettled(): Promise<{ models: ReadonlyMap<string, ScannedModel>; unsettled: Set<string> }> {
    const first = await this.#scanner.scan();
    const young = [...first.models.values()].filter((model) => this.#isYoung(model));
    if (young.length === 0) return { models: first.models, unsettled: new Set() };
    await new Promise<void>((resolve) => this.#clock.schedule(resolve, this.#settleMs));
    const second = await this.#scanner.scan();
    return { models: second.models, unsettled: unsettledOf(first, second) };
  }

  /** Only what differs from what is served needs to be looked at twice. */
  #isYoung(model: ScannedModel): boolean {
    if (this.#settleMs === 0 || Date.now() - model.changedAt > this.#settleMs) return false;
    return this.#changeOf(model.id, model) !== 'none';
  }

  #changeOf(id: string, scanned: ScannedModel | undefined): Change {
    const entry = this.#catalog.entry(id);
    if (scanned === undefined) return entry === undefined ? 'none' : 'removed';
    if (entry === undefined) return 'added';
    return isAsServed(entry, scanned) ? 'none' : 'changed';
  }

  async #apply(id: string, scanned: ScannedModel | undefined, order: Applied): Promise<Change> {
    const entry = this.#catalog.entry(id);
    const change = this.#changeOf(id, scanned);
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

  async #serve(scanned: ScannedModel, entry: CatalogEntry | undefined, order: Applied): Promise<void> {
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
    this.#noteChange(id);
    if (!areSameModels(served, current)) this.#observer.served(id, entry === undefined ? 'added' : 'changed');
    const retired = this.#retire(
      current.filter((model) => !served.includes(model)),
      'replaced',
    );
    if (order.wait) await retired;
    if (failure !== undefined) throw failure;
  }

  /** Those that are to be served; in the place of one that does not load the one that has served until now. */
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
      await Promise.all(
        models.map((model) =>
          this.#loader.load(model, {
            deployment: this.#replicas.defaultDeployment(),
            replicas: 1,
            pin: false,
            retries: 0,
          }),
        ),
      );
    } catch (cause) {
      const error = toInfermuxError(cause);
      this.#observer.failed(id, error);
      throw error;
    }
  }

  async #remove({ id, served }: CatalogEntry, { wait }: Applied): Promise<void> {
    this.#catalog.remove(id);
    this.#noteChange(id);
    for (const [name, candidate] of this.#candidates) if (candidate.id === id) this.#dropCandidate(name);
    this.#observer.removed(id);
    const retired = this.#retire(served, 'unloaded');
    if (wait) await retired;
  }

  /** Their accepted requests are answered before their sessions leave. */
  async #retire(models: readonly RegisteredModel[], reason: 'unloaded' | 'replaced'): Promise<void> {
    await Promise.all(
      models.map(async ({ key }) => {
        await this.#replicas.untilUnused(key);
        await this.#loader.unload(key, reason);
        this.#forget(key);
      }),
    );
  }

  /** The reason why what is there is not what is served is told once. */
  #fail({ id, versions }: ScannedModel, served: readonly RegisteredModel[], error: InfermuxError): InfermuxError {
    const { problem } = this.#catalog.entry(id) ?? {};
    this.#catalog.put({ id, served, versions, problem: error });
    this.#noteChange(id);
    if (problem?.message !== error.message) this.#observer.failed(id, error);
    return error;
  }

  /** The same one again as long as its files are the same, so that it is known that it has failed. */
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
    // It may have been loaded, where another version was not.
    if (candidate !== undefined) void this.#retire([candidate], 'unloaded');
  }

  #forget(key: string): void {
    this.#failures.forget(key);
    this.#catalog.forget(key);
    this.#replicas.forget(key);
    this.#observer.forgotten(key);
  }
}
