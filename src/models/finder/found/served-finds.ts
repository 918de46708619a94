import { existsSync } from 'node:fs';
import type { CacheThread } from '../../cache/thread/cache-thread.js';
import type { ModelCatalog } from '../../model-catalog.js';
import type { RegisteredModel } from '../../registered-model.js';
import type { FollowedModels } from '../../repository/followed-models.js';
import { isSameRevision } from '../../repository/repository-changes.js';
import { notFound, type Target, targetOf } from '../target.js';
import { type Find, FoundModels } from './found-models.js';
import { ModelsInCache } from './models-in-cache.js';
import type { RealizedFind } from './realize-find.js';

export interface ServedFindsEnvironment {
  readonly catalog: ModelCatalog;
  /** Those that were found, in the catalog. */
  follow(found: FoundModels): FollowedModels;
  /** Whether a session, a load, a request or a pin needs the model. */
  isInUse(model: RegisteredModel): boolean;
  /** Resolves when the model, which is out of service, has no accepted requests and no sessions. */
  retired(model: RegisteredModel): Promise<void>;
}

/** What a finder has found, in its place in the catalog, and its files in the cache. */
export class ServedFinds {
  readonly #cache: CacheThread;
  readonly #environment: ServedFindsEnvironment;
  readonly #found = new FoundModels();
  readonly #followed: FollowedModels;
  readonly #inCache: ModelsInCache;
  /** Names of models whose files were gone. */
  readonly #lost = new WeakMap<RegisteredModel, string>();

  constructor(cache: CacheThread, environment: ServedFindsEnvironment) {
    this.#cache = cache;
    this.#environment = environment;
    this.#followed = environment.follow(this.#found);
    this.#inCache = new ModelsInCache(environment.catalog, (path) => cache.folderOf(path));
  }

  /** From now on it is logged what comes into service, and pins are loaded. */
  async open(): Promise<void> {
    await this.#followed.open([]);
  }

  /** Where and when the model was found; undefined for one that was not. */
  lookOf({ id, version }: Pick<RegisteredModel, 'id' | 'version'>): Find | undefined {
    return this.#found.lookOf(id, version);
  }

  /** Puts what was found in its place in the catalog. @param realized undefined when the finder knows no such model. */
  async serve(target: string, realized: RealizedFind | undefined, signal: AbortSignal): Promise<RegisteredModel> {
    const { catalog } = this.#environment;
    const { id, version } = targetOf(target) as Target;
    const before = this.#found.find(id, version);
    const find = realized?.model && { model: realized.model, origin: realized.origin, lookedAt: Date.now() };
    if (find === undefined) this.#found.delete(id, version);
    else this.#found.put(id, version, find);
    let problem: unknown;
    // A directory may have come to have the model meanwhile.
    if (this.isOwn(id)) await this.#followed.refresh(id).catch((cause) => (problem = cause));
    const model = catalog.find(target);
    if (model !== undefined && !this.isOwn(id)) return model;
    if (find !== undefined && model !== undefined && isSameRevision(model, find.model)) {
      this.#inCache.add(model);
      return model;
    }
    if (find !== undefined && this.#found.find(id, version) === find) {
      if (before === undefined) this.#found.delete(id, version);
      // What served before serves on.
      else if (!signal.aborted) this.#found.put(id, version, before);
    }
    throw problem ?? notFound(target, realized?.origin);
  }

  /** Whether the finder may find the model: it is in no directory, and not among the named ones. */
  isOwn(id: string): boolean {
    const owner = this.#environment.catalog.ownerOf(id);
    return owner === undefined || owner === 'finder';
  }

  /** Whether requests for the model's id go to the model itself, and not to one that has taken its place, or will. */
  isServed({ id, key }: RegisteredModel): boolean {
    return this.#environment.catalog.entry(id)?.served.some((each) => each.key === key) === true;
  }

  /**
   * What serves instead of a model whose files somebody has taken out of the cache: the model in its place, or the name to
   * look for. Undefined while its files are there. It is not served any more.
   */
  insteadOf(model: RegisteredModel): RegisteredModel | string | undefined {
    const target = this.#lost.get(model) ?? this.#nameIfLost(model);
    const served = target === undefined ? undefined : this.#environment.catalog.find(target);
    return served === undefined || served === model ? target : served;
  }

  #nameIfLost(model: RegisteredModel): string | undefined {
    if ([model.path, ...(model.externalData ?? [])].every((path) => existsSync(path))) return undefined;
    const target = this.#environment.catalog.nameOf(model);
    // Files that are there later are those of the model in its place.
    this.#lost.set(model, target);
    if (this.isServed(model)) void this.withdraw(model).catch(() => undefined);
    return target;
  }

  /** Takes the models of the folder out of service. @returns false when one is in use. */
  async release(folder: string): Promise<boolean> {
    const models = this.#inCache.in(folder);
    if (models.some((model) => this.#environment.isInUse(model))) return false;
    this.#inCache.forget(folder);
    await Promise.all(models.map((model) => this.withdraw(model)));
    return true;
  }

  /** Takes models of one id out of service and out of the cache. @param version undefined: all versions. */
  async remove(models: readonly RegisteredModel[], version: number | undefined): Promise<void> {
    const [model] = models;
    if (model !== undefined) await this.withdraw({ id: model.id, version });
    await Promise.all(models.map((each) => this.#environment.retired(each)));
    await Promise.all(this.#inCache.left(models).map((folder) => this.#cache.remove(folder)));
  }

  /** Takes models of the id out of service. @param version undefined: all versions. */
  async withdraw({ id, version }: Target): Promise<void> {
    this.#found.forget(id, version);
    await this.#followed.refresh(id);
  }

  close(): void {
    this.#followed.close();
  }
}
