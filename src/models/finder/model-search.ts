import type { Clock } from '../../common/clock.js';
import { InfermuxError, messageOf, show, toInfermuxError } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import { Slots } from '../../common/slots.js';
import type { ModelCacheOptions } from '../cache/model-cache.js';
import { CacheThread, type StartThread } from '../cache/thread/cache-thread.js';
import type { ModelCatalog } from '../model-catalog.js';
import type { RegisteredModel } from '../registered-model.js';
import type { FollowedModels } from '../repository/followed-models.js';
import { askFinder } from './ask-finder.js';
import { checkFound, type ResolvedFinder } from './finder.js';
import { type Find, FoundModels } from './found-models.js';
import { realizeFind } from './realize-find.js';
import { notFound, type Target, targetOf } from './target.js';

/** Calls of a finder, and downloads, that are under way at once. */
const MOST_FINDS = 16;
const MOST_DOWNLOADS = 4;

export interface ModelSearchOptions {
  readonly finder: ResolvedFinder;
  readonly cache: ModelCacheOptions;
  /** Whether manifests may pin models. */
  readonly mayPin: boolean;
}

/** What became of a search. */
export type SearchOutcome = 'found' | 'not_found' | 'failed' | 'cancelled';

export interface ModelSearchEnvironment {
  readonly catalog: ModelCatalog;
  readonly clock: Clock;
  readonly startThread: StartThread;
  /** Those that were found, in the catalog. */
  follow(found: FoundModels): FollowedModels;
  /** Whether a session, a request or a pin needs the model. */
  isInUse(model: RegisteredModel): boolean;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
  /** So many bytes of a model have come. */
  received(bytes: number): void;
  searched(outcome: SearchOutcome, milliseconds: number): void;
}

/** A search for one target, for all who wait for it. */
interface Search {
  readonly found: Promise<RegisteredModel>;
  readonly controller: AbortController;
  waiters: number;
}

/** Somebody's part in a search. */
export interface JoinedSearch {
  /** @throws InfermuxError `MODEL_NOT_FOUND`, `MODEL_LOAD_FAILED` and others, by rejection. */
  readonly found: Promise<RegisteredModel>;
  /** Call it when the model is not wanted any more: a search that nobody waits for is given up. */
  leave(): void;
}

/** Looks for models with a finder, once for all who want the same, and puts what it finds into the catalog. */
export class ModelSearch {
  readonly #finder: ResolvedFinder;
  readonly #mayPin: boolean;
  readonly #maxModelBytes: number;
  readonly #environment: ModelSearchEnvironment;
  readonly #found = new FoundModels();
  readonly #followed: FollowedModels;
  readonly #cache: CacheThread;
  readonly #searches = new Map<string, Search>();
  /** Ids of models that were found in each folder of the cache; some may be gone. */
  readonly #idsIn = new Map<string, Set<string>>();
  readonly #failures: FailureMemory;
  readonly #finds = new Slots(MOST_FINDS);
  readonly #downloads = new Slots(MOST_DOWNLOADS);
  #closed: InfermuxError | undefined;
  #endFinds: (error: InfermuxError) => void = () => undefined;
  /** Rejects when the engine closes. */
  readonly #closing = new Promise<never>((_, reject) => {
    this.#endFinds = reject;
  });

  constructor({ finder, cache, mayPin }: ModelSearchOptions, environment: ModelSearchEnvironment) {
    const { clock } = environment;
    this.#closing.catch(() => undefined);
    this.#finder = finder;
    this.#mayPin = mayPin;
    this.#maxModelBytes = cache.maxModelBytes;
    this.#environment = environment;
    this.#followed = environment.follow(this.#found);
    this.#failures = new FailureMemory(() => clock.now());
    this.#cache = new CacheThread(cache, {
      ...{ clock, startThread: environment.startThread },
      release: (folder) => this.#release(folder),
      received: (bytes) => environment.received(bytes),
    });
  }

  /** Why the target is not looked for now: it is no name of a model, or the last search failed a short while ago. */
  refusalOf(target: string): InfermuxError | undefined {
    return targetOf(target) === undefined ? notFound(target) : (this.#closed ?? this.#failures.recall(target));
  }

  /**
   * Begins a search, or joins the one under way.
   *
   * @param target a model id or `id@version` that {@link refusalOf} does not refuse.
   */
  join(target: string): JoinedSearch {
    const search = this.#searches.get(target) ?? this.#begin(target);
    search.waiters += 1;
    let isIn = true;
    const leave = () => {
      if (!isIn) return;
      isIn = false;
      search.waiters -= 1;
      if (search.waiters > 0) return;
      if (this.#searches.get(target) === search) this.#searches.delete(target);
      search.controller.abort(new InfermuxError('CANCELLED', `nobody waits for model ${show(target)} any more`));
    };
    return { found: search.found, leave };
  }

  /** Finds the model, unless it is known. @throws InfermuxError as {@link JoinedSearch.found}. */
  async find(target: string): Promise<RegisteredModel> {
    const refusal = this.refusalOf(target);
    if (refusal !== undefined) throw refusal;
    const { found, leave } = this.join(target);
    return Promise.race([found, this.#closing]).finally(leave);
  }

  /** Ids that the finder lists; none if it lists none, or cannot. */
  async #list(): Promise<string[]> {
    const ids: string[] = [];
    try {
      for await (const id of (await this.#finder.list?.()) ?? []) ids.push(id);
    } catch (cause) {
      this.#environment.log('warn', { reason: messageOf(cause) }, 'the finder could not list its models');
    }
    return ids;
  }

  /** Finds the models that are to be loaded at the start. What is not found is logged. */
  async findInitial(pinned: readonly string[], areAllWanted: boolean): Promise<void> {
    const targets = [...pinned, ...(areAllWanted ? await this.#list() : [])];
    const unknown = targets.filter((target) => this.#environment.catalog.find(target) === undefined);
    await Promise.allSettled(unknown.map((target) => this.find(target)));
    await this.#followed.open([]);
  }

  /** A request names a found model: it is looked for again if that is due, while it goes on serving. */
  used(model: RegisteredModel): void {
    const { refreshMs } = this.#finder;
    if (refreshMs === -1) return;
    const look = this.lookOf(model);
    if (look === undefined || Date.now() - look.lookedAt < refreshMs) return;
    const target = this.#environment.catalog.nameOf(model);
    if (!this.#searches.has(target) && this.refusalOf(target) === undefined) this.find(target).catch(() => undefined);
  }

  /** A replica has loaded a found model. */
  loaded({ path }: RegisteredModel): void {
    this.#cache.used(path);
  }

  /** Where and when the model was found; undefined for one that was not. */
  lookOf({ id, version }: Pick<RegisteredModel, 'id' | 'version'>): Find | undefined {
    return this.#found.lookOf(id, version);
  }

  /** Takes a found model out of service and out of the cache. A later request finds it again. */
  async undeploy(id: string): Promise<void> {
    const served = this.#environment.catalog.entry(id)?.served ?? [];
    await this.#withdraw(id);
    for (const { path } of served) {
      const folder = this.#cache.folderOf(path);
      // Another model may have the same contents, and so the same files.
      if (folder !== undefined && this.#modelsIn(folder).length === 0) await this.#cache.remove(folder);
    }
  }

  /** The files of the model are gone: it is not served any more. @returns the name by which it is found again. */
  lost(model: RegisteredModel): string {
    const target = this.#environment.catalog.nameOf(model);
    void this.#withdraw(model.id).catch(() => undefined);
    return target;
  }

  /** Ends the thread of the cache. Call it when nobody waits for a model any more. */
  end(): void {
    this.#cache.close();
  }

  /** Begins no more searches. Those that accepted requests wait for go on. */
  close(error: InfermuxError): void {
    this.#closed ??= error;
    this.#followed.close();
    this.#endFinds(error);
  }

  #begin(target: string): Search {
    const controller = new AbortController();
    const search: Search = { found: this.#search(target, controller.signal), controller, waiters: 0 };
    search.found.catch(() => undefined);
    this.#searches.set(target, search);
    const end = () => {
      if (this.#searches.get(target) === search) this.#searches.delete(target);
    };
    search.found.then(end, end);
    return search;
  }

  async #search(target: string, signal: AbortSignal): Promise<RegisteredModel> {
    const { clock, catalog, log, searched } = this.#environment;
    const startedAt = clock.now();
    try {
      const { id, version } = targetOf(target) as Target;
      const find = await this.#look(id, version, signal);
      if (find === undefined) this.#found.delete(id, version);
      else this.#found.put(id, version, find);
      // A directory may have come to have the model meanwhile.
      if (catalog.entry(id)?.isFound !== false) await this.#followed.refresh(id);
      const model = catalog.find(target);
      if (find === undefined || model === undefined) throw notFound(target);
      this.#failures.forget(target);
      this.#note(model);
      const findMs = clock.now() - startedAt;
      searched('found', findMs);
      const { origin } = find;
      log('info', { model: id, version: model.version, origin, bytes: model.bytes, findMs }, 'model found');
      return model;
    } catch (cause) {
      const error = signal.aborted ? toInfermuxError(signal.reason) : toInfermuxError(cause);
      const isOver = signal.aborted || this.#closed !== undefined;
      searched(
        isOver ? 'cancelled' : error.code === 'MODEL_NOT_FOUND' ? 'not_found' : 'failed',
        clock.now() - startedAt,
      );
      if (!isOver) {
        const nextTryInMs = this.#failures.record(target, error);
        log('warn', { model: target, reason: error.message, nextTryInMs }, 'model could not be found');
      }
      throw error;
    }
  }

  async #look(id: string, version: number | undefined, signal: AbortSignal): Promise<Find | undefined> {
    const answer = await this.#finds.run(signal, () =>
      askFinder(this.#finder, id, version, signal, this.#environment.clock),
    );
    if (answer === undefined || answer === null) return undefined;
    const found = checkFound(`what the finder found for model ${show(id)}`, answer);
    const terms = { cache: this.#cache, maxModelBytes: this.#maxModelBytes, mayPin: this.#mayPin, signal };
    const isQuick = found.place.kind === 'path' || found.place.kind === 'bytes';
    const realize = () => realizeFind(id, version, found, terms);
    const realized = await (isQuick ? realize() : this.#downloads.run(signal, realize));
    signal.throwIfAborted();
    return realized && { ...realized, lookedAt: Date.now() };
  }

  #note({ id, path }: RegisteredModel): void {
    const folder = this.#cache.folderOf(path);
    if (folder === undefined) return;
    const ids = this.#idsIn.get(folder) ?? new Set();
    this.#idsIn.set(folder, ids.add(id));
  }

  /** The models that are served from the folder. */
  #modelsIn(folder: string): RegisteredModel[] {
    const served = [...(this.#idsIn.get(folder) ?? [])].flatMap(
      (id) => this.#environment.catalog.entry(id)?.served ?? [],
    );
    return served.filter(({ path }) => this.#cache.folderOf(path) === folder);
  }

  /** Takes the models of the folder out of service. @returns false when one is in use. */
  async #release(folder: string): Promise<boolean> {
    const models = this.#modelsIn(folder);
    if (models.some((model) => this.#environment.isInUse(model))) return false;
    this.#idsIn.delete(folder);
    await Promise.all([...new Set(models.map(({ id }) => id))].map((id) => this.#withdraw(id)));
    return true;
  }

  async #withdraw(id: string): Promise<void> {
    this.#found.forget(id);
    await this.#followed.refresh(id);
  }
}
