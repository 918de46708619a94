import type { Clock } from '../../common/clock.js';
import { InfermuxError, messageOf, show, toInfermuxError } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import type { ModelCacheOptions } from '../cache/model-cache.js';
import { CacheThread, type StartThread } from '../cache/thread/cache-thread.js';
import { nameOf, type RegisteredModel } from '../registered-model.js';
import { listModels } from './ask-finder.js';
import { DownloadProgress } from './download-progress.js';
import { FinderLooks } from './finder-looks.js';
import type { Finders } from './finders.js';
import type { Find } from './found/found-models.js';
import { ServedFinds, type ServedFindsEnvironment } from './found/served-finds.js';
import { type NearModels, NearSearch } from './near-search.js';
import { failureOf, type Target, targetOf } from './target.js';

export interface ModelSearchOptions {
  readonly finders: Finders;
  readonly cache: ModelCacheOptions;
  /** Whether manifests may pin models. */
  readonly mayPin: boolean;
}

/** What became of a search. */
export type SearchOutcome = 'found' | 'not_found' | 'failed' | 'cancelled';

export interface ModelSearchEnvironment extends ServedFindsEnvironment {
  readonly near: NearModels;
  readonly clock: Clock;
  readonly startThread: StartThread;
  /** Whether a replica has loaded the model. */
  isLoaded(model: RegisteredModel): boolean;
  /** Nobody wants the model to be loaded any more. */
  unpin(id: string): Promise<void>;
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
  readonly #finders: Finders;
  readonly #environment: ModelSearchEnvironment;
  readonly #served: ServedFinds;
  readonly #cache: CacheThread;
  readonly #searches = new Map<string, Search>();
  /** Models that serve while they are looked for again, by the name that they are looked for under. */
  readonly #refreshes = new Map<string, JoinedSearch>();
  readonly #failures: FailureMemory;
  readonly #near: NearSearch;
  readonly #looks: FinderLooks;
  #closed: InfermuxError | undefined;
  /** What is to be rejected when the engine closes. */
  readonly #endings = new Set<(error: InfermuxError) => void>();

  constructor({ finders, cache, mayPin }: ModelSearchOptions, environment: ModelSearchEnvironment) {
    const { clock } = environment;
    const progress = new DownloadProgress(environment);
    this.#finders = finders;
    this.#environment = environment;
    this.#failures = new FailureMemory(() => clock.now());
    this.#near = new NearSearch(environment.near, environment.catalog, () => clock.now());
    this.#cache = new CacheThread(cache, {
      ...{ clock, startThread: environment.startThread },
      release: (folder) => this.#served.release(folder),
      received: (bytes) => progress.received(bytes),
    });
    const terms = { cache: this.#cache, maxModelBytes: cache.maxModelBytes, mayPin };
    this.#looks = new FinderLooks(finders, terms, progress, clock);
    this.#served = new ServedFinds(this.#cache, environment);
  }

  /**
   * Why the target is not looked for now: it is no name of a model, the model is elsewhere, or the last search failed a
   * short while ago.
   */
  refusalOf(target: string): InfermuxError | undefined {
    const { catalog } = this.#environment;
    const named = targetOf(target);
    const isNear = named !== undefined && this.#near.mayHave(named);
    const mayAsk = named !== undefined && this.#mayAsk(named);
    if (!isNear && !mayAsk) return catalog.whyNot(target);
    if (this.#closed !== undefined || this.#searches.has(target)) return this.#closed;
    const unseen = isNear ? this.#near.refusalOf(target) : undefined;
    // A look costs little, whatever became of the last search.
    if (isNear && unseen === undefined) return undefined;
    return mayAsk ? this.#failures.recall(target) : unseen;
  }

  /** Whether a finder may find a model of this name. */
  mayFind(target: string): boolean {
    const named = targetOf(target);
    return named !== undefined && this.#mayAsk(named);
  }

  /** Whether a finder may find the model. */
  #mayAsk({ id }: Target): boolean {
    return this.#finders.of(id) !== undefined && this.#served.isOwn(id);
  }

  /** What was not found may be there now: another finder is asked for the model. */
  forgetFailures(id: string): void {
    this.#failures.forgetThose((target) => targetOf(target)?.id === id);
    this.#near.forget(id);
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
      search.controller.abort(new InfermuxError('CANCELLED', `no request waits for model ${show(target)} any more`));
    };
    return { found: search.found, leave };
  }

  /** Finds the model, unless it is known. @throws InfermuxError as {@link JoinedSearch.found}. */
  async find(target: string): Promise<RegisteredModel> {
    const refusal = this.refusalOf(target);
    if (refusal !== undefined) throw refusal;
    const { found, leave } = this.join(target);
    return this.#unlessClosed(found).finally(leave);
  }

  /** Finds the models that are to be loaded at the start. What is not found is logged. */
  async findInitial(pinned: readonly string[], areAllWanted: boolean): Promise<void> {
    const { catalog, clock, log } = this.#environment;
    const { engine } = this.#finders;
    const listing = areAllWanted && engine !== undefined ? this.#unlessClosed(listModels(engine, clock)) : [];
    const listed = await Promise.resolve(listing).catch((cause) => {
      if (this.#closed === undefined) log('warn', { reason: messageOf(cause) }, 'the finder could not list its models');
      return [];
    });
    if (areAllWanted && engine !== undefined && engine.list === undefined)
      log('warn', {}, 'repository.loadOnStart loads no model of the finder: it has no list()');
    const unknown = [...pinned, ...listed].filter((target) => catalog.find(target) === undefined);
    await Promise.allSettled(unknown.map((target) => this.find(target)));
    await this.#served.open();
  }

  /** A request names a found model: it is looked for again if that is due, while it goes on serving. */
  used(model: RegisteredModel): void {
    const { refreshMs = -1 } = this.#finders.of(model.id) ?? {};
    if (refreshMs === -1) return;
    const look = this.#served.lookOf(model);
    if (look === undefined || Date.now() - look.lookedAt < refreshMs) return;
    const target = this.#environment.catalog.nameOf(model);
    if (this.#searches.has(target) || this.refusalOf(target) !== undefined) return;
    const refresh = this.join(target);
    this.#refreshes.set(target, refresh);
    const end = () => this.#endRefresh(target, refresh);
    refresh.found.then(end, end);
  }

  /** A replica has loaded a found model. */
  loaded({ path }: RegisteredModel): void {
    this.#cache.used(path);
  }

  /** As {@link ServedFinds.lookOf}. */
  lookOf(model: Pick<RegisteredModel, 'id' | 'version'>): Find | undefined {
    return this.#served.lookOf(model);
  }

  /**
   * Takes a found model, or one version of it, out of service and out of the cache. A later request finds it again.
   *
   * @throws InfermuxError `MODEL_NOT_FOUND` when the finder has not found it.
   */
  async undeploy(target: string): Promise<void> {
    const { catalog } = this.#environment;
    const { id, version } = targetOf(target) ?? { id: target, version: undefined };
    const served = catalog.ownerOf(id) === 'finder' ? (catalog.entry(id)?.served ?? []) : [];
    const leaving = served.filter((model) => version === undefined || model.version === version);
    if (leaving.length === 0) throw catalog.whyNot(target);
    for (const [name, refresh] of [...this.#refreshes]) if (targetOf(name)?.id === id) this.#endRefresh(name, refresh);
    await this.#served.remove(leaving, version);
    if (catalog.entry(id) === undefined) await this.#environment.unpin(id);
  }

  /** As {@link ServedFinds.insteadOf}. */
  insteadOf(model: RegisteredModel): RegisteredModel | string | undefined {
    return this.#served.insteadOf(model);
  }

  /**
   * A replica could not load the model, and no replica could. It is not served any more, and is found again after a
   * while: where it comes from, it may be mended.
   */
  loadFailed(model: RegisteredModel | undefined, error: InfermuxError): void {
    if (model?.isFound !== true || this.#environment.isLoaded(model) || !this.#served.isServed(model)) return;
    for (const target of new Set([this.#environment.catalog.nameOf(model), nameOf(model)]))
      this.#failures.record(target, error);
    void this.#served.remove([model], model.version).catch(() => undefined);
  }

  /** Ends the thread of the cache. Call it when nobody waits for a model any more. */
  end(): void {
    this.#cache.close();
  }

  /** Begins no more searches. Those that accepted requests wait for go on. */
  close(error: InfermuxError): void {
    this.#closed ??= error;
    this.#served.close();
    for (const end of this.#endings) end(error);
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
    const { clock, log, searched } = this.#environment;
    const { id, version } = targetOf(target) as Target;
    const near = await this.#near.look(target, signal);
    if (near !== undefined) return near;
    if (!this.#mayAsk({ id, version })) throw this.#environment.catalog.whyNot(target);
    const failure = this.#failures.recall(target);
    if (failure !== undefined) throw failure;
    const finder = this.#finders.of(id);
    const startedAt = clock.now();
    try {
      const realized = await this.#looks.look({ id, version }, signal);
      try {
        // Its finder may have been taken away meanwhile.
        const isWanted = this.#finders.of(id) === finder;
        const model = await this.#served.serve(target, isWanted ? realized : undefined, signal);
        this.#failures.forget(target);
        const findMs = clock.now() - startedAt;
        searched('found', findMs);
        const origin = realized?.origin;
        log('info', { model: id, version: model.version, origin, bytes: model.bytes, findMs }, 'model found');
        return model;
      } finally {
        // From now on those who wait for it, and its session, keep its files in the cache.
        if (realized?.kept !== undefined) this.#cache.settle(realized.kept);
      }
    } catch (cause) {
      const error = signal.aborted ? toInfermuxError(signal.reason) : failureOf(cause);
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

  /** Resolves as the work does, or rejects when the engine closes. */
  #unlessClosed<T>(work: Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      this.#endings.add(reject);
      const end = () => this.#endings.delete(reject);
      work.then(resolve, reject).then(end, end);
    });
  }

  #endRefresh(target: string, refresh: JoinedSearch): void {
    if (this.#refreshes.get(target) === refresh) this.#refreshes.delete(target);
    refresh.leave();
  }
}
