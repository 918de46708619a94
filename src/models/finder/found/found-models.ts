import type { FoundModel } from '../../registered-model.js';
import type { ModelScanner, RepositoryScan, ScannedModel } from '../../repository/scanned-model.js';

/** A model that a finder has found. */
export interface Find {
  readonly model: FoundModel;
  /** Where it came from, for people. */
  readonly origin: string;
  /** When the finder said so: milliseconds as of `Date.now()`. */
  readonly lookedAt: number;
}

/** What was found under one id, by the version that was asked for, in the order of the looks; undefined: the id alone. */
type Finds = Map<number | undefined, Find>;

/** The models that a finder has found so far. A scan looks no further. */
export class FoundModels implements ModelScanner {
  readonly #finds = new Map<string, Finds>();

  /** What was found for this version of the id, or for the id alone; undefined before that. */
  find(id: string, version: number | undefined): Find | undefined {
    return this.#finds.get(id)?.get(version);
  }

  /** When and where the version that is served was found. */
  lookOf(id: string, version: number): Find | undefined {
    return this.#newest(id).get(version);
  }

  /** @param version undefined: what the id alone stands for. */
  put(id: string, version: number | undefined, find: Find): void {
    const finds: Finds = this.#finds.get(id) ?? new Map();
    this.#finds.set(id, finds);
    finds.delete(version);
    finds.set(version, find);
  }

  /** There is no such model any more. @param version undefined: what the id alone stands for. */
  delete(id: string, version: number | undefined): void {
    const finds = this.#finds.get(id);
    finds?.delete(version);
    if (finds?.size === 0) this.#finds.delete(id);
  }

  /** Forgets what was found of one version, whatever was asked for, or of all. */
  forget(id: string, version: number | undefined): void {
    for (const [asked, { model }] of [...(this.#finds.get(id) ?? [])])
      if (version === undefined || model.version === version) this.delete(id, asked);
  }

  async scan(only?: string): Promise<RepositoryScan> {
    const models = new Map<string, ScannedModel>();
    for (const id of only === undefined ? this.#finds.keys() : [only]) {
      const scanned = this.#scanned(id);
      if (scanned !== undefined) models.set(id, scanned);
    }
    return { models, passedOver: new Map(), isEmpty: false };
  }

  /** What was found of each version. The last look counts. */
  #newest(id: string): Map<number, Find> {
    return new Map([...(this.#finds.get(id)?.values() ?? [])].map((find) => [find.model.version, find]));
  }

  #scanned(id: string): ScannedModel | undefined {
    const models = [...this.#newest(id).values()].map(({ model }) => model);
    if (models.length === 0) return undefined;
    const served = models.sort((left, right) => left.version - right.version);
    const standsFor = this.find(id, undefined)?.model.version;
    const versions = served.map(({ version }) => version);
    return { id, served, versions, standsFor: standsFor ?? null, changedAt: 0, problem: undefined };
  }
}
