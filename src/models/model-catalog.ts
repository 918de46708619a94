import { InfermuxError, show } from '../common/errors.js';
import { checkModelId } from '../common/model-id.js';
import type { ModelMetadata } from '../tensors/tensor.js';
import { type FoundModel, nameOf, type RegisteredModel } from './registered-model.js';

/** How many ids a message about an unknown one names. */
const IDS_IN_MESSAGE = 12;

/** What one id stands for. */
export interface CatalogEntry {
  readonly id: string;
  /** In ascending order of their versions; the id alone stands for the last. */
  readonly served: readonly RegisteredModel[];
  /** Versions that are there and not served among them. */
  readonly versions: readonly number[];
  /** Why its files as they are now are not served, if so. */
  readonly problem: InfermuxError | undefined;
}

/** The models that can be asked for, by id and version, and what became known of them. */
export class ModelCatalog {
  readonly #entries = new Map<string, CatalogEntry>();
  readonly #byTarget = new Map<string, RegisteredModel>();
  /** Those among them that nobody can ask for any more, and that still have requests or sessions. */
  readonly #byKey = new Map<string, RegisteredModel>();
  readonly #metadata = new Map<string, ModelMetadata>();
  readonly #onChange: () => void;
  #revisions = 1;

  /** @param onChange called whenever an id or a version may stand for another model than before. */
  constructor(onChange: () => void = () => undefined) {
    this.#onChange = onChange;
  }

  get entries(): IterableIterator<CatalogEntry> {
    return this.#entries.values();
  }

  get models(): RegisteredModel[] {
    return [...this.#entries.values()].flatMap(({ served }) => served);
  }

  entry(id: string): CatalogEntry | undefined {
    return this.#entries.get(id);
  }

  /**
   * @param target a model id, which stands for its latest version that is served, or `id@version`.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`; `MODEL_LOAD_FAILED` for one that is there and has a problem.
   */
  resolve(target: unknown): RegisteredModel {
    const model = this.#byTarget.get(target as string);
    if (model !== undefined) return model;
    checkModelId(target);
    throw this.#whyNot(target);
  }

  /** Undefined for what is not served. */
  find(target: string): RegisteredModel | undefined {
    return this.#byTarget.get(target);
  }

  byKey(key: string): RegisteredModel | undefined {
    return this.#byKey.get(key);
  }

  /** Inputs and outputs; undefined until the model was loaded once. */
  metadata(key: string): ModelMetadata | undefined {
    return this.#metadata.get(key);
  }

  setMetadata(key: string, metadata: ModelMetadata): void {
    // What comes late of a model that is gone is not kept.
    if (this.#byKey.has(key)) this.#metadata.set(key, metadata);
  }

  /** Gives the model a key that no other has at present. Nobody can ask for it before it is among those of {@link put}. */
  register(found: FoundModel): RegisteredModel {
    const name = nameOf(found);
    const isTaken = this.#byKey.has(name);
    if (isTaken) this.#revisions += 1;
    const model = { ...found, key: isTaken ? `${name}#${this.#revisions}` : name };
    this.#byKey.set(model.key, model);
    return model;
  }

  /** What requests for the id and its versions find from now on. @param entry with models that were registered. */
  put(entry: CatalogEntry): void {
    this.remove(entry.id);
    this.#entries.set(entry.id, entry);
    for (const model of entry.served) {
      this.#byTarget.set(nameOf(model), model);
      this.#byTarget.set(entry.id, model);
    }
  }

  /** Nobody can ask for it any more. */
  remove(id: string): void {
    for (const model of this.#entries.get(id)?.served ?? []) this.#byTarget.delete(nameOf(model));
    this.#byTarget.delete(id);
    this.#entries.delete(id);
    this.#onChange();
  }

  /** To be called when nobody has a use for the model any more. */
  forget(key: string): void {
    this.#byKey.delete(key);
    this.#metadata.delete(key);
  }

  #whyNot(target: string): InfermuxError {
    const [id = target] = target.split('@');
    const entry = this.#entries.get(id);
    if (entry !== undefined && entry.served.length === 0 && entry.problem !== undefined) {
      return new InfermuxError('MODEL_LOAD_FAILED', entry.problem.message, { cause: entry.problem });
    }
    return new InfermuxError('MODEL_NOT_FOUND', `no model ${show(target)}; ${this.#hint(id, entry)}`);
  }

  #hint(id: string, entry: CatalogEntry | undefined): string {
    if (entry !== undefined) {
      const served = `versions of ${show(id)}: ${entry.served.map(({ version }) => version).join(', ')}`;
      const others = entry.versions.filter((version) => !entry.served.some((model) => model.version === version));
      return others.length === 0 ? served : `${served}; there, but not served: ${others.join(', ')}`;
    }
    const ids = [...this.#entries.keys()];
    const known = ids.slice(0, IDS_IN_MESSAGE).map(show).join(', ');
    const more = ids.length > IDS_IN_MESSAGE ? ` and ${ids.length - IDS_IN_MESSAGE} more` : '';
    return `known models: ${known || 'none'}${more}`;
  }
}
