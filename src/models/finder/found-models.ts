import type { FoundModel } from '../registered-model.js';
import type { ModelScanner, RepositoryScan, ScannedModel } from '../repository/scanned-model.js';

/** A model that a finder has found. */
export interface Find {
  readonly model: FoundModel;
  /** Where it came from, for people. */
  readonly origin: string;
  /** When the finder said so: milliseconds as of `Date.now()`. */
  readonly lookedAt: number;
}

/** What was found under one id. */
interface Finds {
  /** What the id alone stands for, if it was looked for. */
  latest: Find | undefined;
  /** By the version that was asked for. */
  readonly versions: Map<number, Find>;
}

/** The models that a finder has found so far. A scan looks no further. */
export class FoundModels implements ModelScanner {
  readonly #finds = new Map<string, Finds>();

  /** What was found for this version of the id, or for the id alone; undefined before that. */
  find(id: string, version: number | undefined): Find | undefined {
    const finds = this.#finds.get(id);
    return version === undefined ? finds?.latest : finds?.versions.get(version);
  }

  /** When and where the version that is served was found. */
  lookOf(id: string, version: number): Find | undefined {
    return this.#all(id).find(({ model }) => model.version === version);
  }

  put(id: string, version: number | undefined, find: Find): void {
    const finds = this.#finds.get(id) ?? { latest: undefined, versions: new Map() };
    this.#finds.set(id, finds);
    if (version === undefined) finds.latest = find;
    else finds.versions.set(version, find);
  }

  /** There is no such model any more. @param version undefined: what the id alone stands for. */
  delete(id: string, version: number | undefined): void {
    const finds = this.#finds.get(id);
    if (finds === undefined) return;
    if (version === undefined) finds.latest = undefined;
    else finds.versions.delete(version);
    if (finds.latest === undefined && finds.versions.size === 0) this.#finds.delete(id);
  }

  /** Forgets the id and all of its versions. */
  forget(id: string): void {
    this.#finds.delete(id);
  }

  async scan(only?: string): Promise<RepositoryScan> {
    const models = new Map<string, ScannedModel>();
    for (const id of only === undefined ? this.#finds.keys() : [only]) {
      const scanned = this.#scanned(id);
      if (scanned !== undefined) models.set(id, scanned);
    }
    return { models, passedOver: new Map(), isEmpty: false };
  }

  #all(id: string): Find[] {
    const { latest, versions } = this.#finds.get(id) ?? { latest: undefined, versions: new Map<number, Find>() };
    return latest === undefined ? [...versions.values()] : [latest, ...versions.values()];
  }

  #scanned(id: string): ScannedModel | undefined {
    const finds = this.#all(id);
    if (finds.length === 0) return undefined;
    // The one that the id stands for goes before an older look at the same version.
    const byVersion = new Map<number, FoundModel>();
    for (const { model } of finds) if (!byVersion.has(model.version)) byVersion.set(model.version, model);
    const served = [...byVersion.values()].sort((left, right) => left.version - right.version);
    const standsFor = this.#finds.get(id)?.latest?.model.version;
    const versions = served.map(({ version }) => version);
    return { id, served, versions, standsFor: standsFor ?? null, changedAt: 0, problem: undefined };
  }
}
