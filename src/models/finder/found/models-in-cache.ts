import type { ModelCatalog } from '../../model-catalog.js';
import type { RegisteredModel } from '../../registered-model.js';

/** Which models are served from which folder of the cache: several, if their contents are the same. */
export class ModelsInCache {
  readonly #catalog: ModelCatalog;
  readonly #folderOf: (path: string) => string | undefined;
  /** Ids of models that were found in each folder; some may be gone. */
  readonly #ids = new Map<string, Set<string>>();

  /** @param folderOf returns the folder of the cache that a file is in; undefined for a file elsewhere. */
  constructor(catalog: ModelCatalog, folderOf: (path: string) => string | undefined) {
    this.#catalog = catalog;
    this.#folderOf = folderOf;
  }

  add({ id, path }: RegisteredModel): void {
    const folder = this.#folderOf(path);
    if (folder === undefined) return;
    const ids = this.#ids.get(folder) ?? new Set();
    this.#ids.set(folder, ids.add(id));
  }

  /** The models that are served from the folder. */
  in(folder: string): RegisteredModel[] {
    const served = [...(this.#ids.get(folder) ?? [])].flatMap((id) => this.#catalog.entry(id)?.served ?? []);
    return served.filter(({ path }) => this.#folderOf(path) === folder);
  }

  /** The folders of these models that no model is served from any more. */
  left(models: readonly RegisteredModel[]): string[] {
    const folders = new Set(models.map(({ path }) => this.#folderOf(path)));
    return [...folders].filter((folder) => folder !== undefined && this.in(folder).length === 0) as string[];
  }

  forget(folder: string): void {
    this.#ids.delete(folder);
  }
}
