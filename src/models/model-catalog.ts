import { InfermuxError, show, showNames } from '../common/errors.js';
import { checkModelId } from '../common/model-id.js';
import { narrowKeyOf } from '../contracts/model-reference.js';
import type { ModelMetadata } from '../tensors/tensor.js';
import { type FoundModel, nameOf, type RegisteredModel } from './registered-model.js';

/** Where a model comes from: the directory, the sources that are named one by one, or a finder. */
export type ModelOwner = 'directory' | 'sources' | 'finder';

/** The model that an id stands for. */
export interface CatalogEntry {
  readonly id: string;
  /** The versions that are served, in ascending order. */
  readonly served: readonly RegisteredModel[];
  /** The served version that the id alone stands for; null: none that is known. Default: the last. */
  readonly standsFor?: number | null | undefined;
  /** Where it comes from. Default: the directory. */
  readonly owner?: ModelOwner | undefined;
  /** All versions that were found, served or not. */
  readonly versions: readonly number[];
  /** Why the current files are not served; undefined when they are. */
  readonly problem: InfermuxError | undefined;
}

/** The models that requests can name, by id and version, with their metadata. */
export class ModelCatalog {
  readonly #entries = new Map<string, CatalogEntry>();
  readonly #byTarget = new Map<string, RegisteredModel>();
  /** All registered models. Some can no longer be named, but still have requests or sessions. */
  readonly #byKey = new Map<string, RegisteredModel>();
  /** How many models are registered, by id. */
  readonly #counts = new Map<string, number>();
  readonly #metadata = new Map<string, ModelMetadata>();
  readonly #onChange: () => void;
  #revisions = 1;

  /** @param onChange called whenever an id or a version may stand for a different model than before. */
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
   * @param target a model id, which stands for its latest served version, or `id@version`.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`; `MODEL_LOAD_FAILED` for a model that exists and has a
   *   problem.
   */
  resolve(target: unknown): RegisteredModel {
    const model = this.#byTarget.get(target as string);
    if (model !== undefined) return model;
    checkModelId(target);
    throw this.whyNot(target);
  }

  /** Where the model comes from; undefined for an unknown id. */
  ownerOf(id: string): ModelOwner | undefined {
    const entry = this.#entries.get(id);
    return entry && (entry.owner ?? 'directory');
  }

  /** The served model of this name; undefined when there is none. */
  find(target: string): RegisteredModel | undefined {
    return this.#byTarget.get(target);
  }

  /** The name by which requests find the model: its id if that alone stands for it, otherwise `id@version`. */
  nameOf(model: RegisteredModel): string {
    return this.#byTarget.get(model.id) === model ? model.id : nameOf(model);
  }

  /** The model that a session with this key, narrow or wide, belongs to. */
  byKey(key: string): RegisteredModel | undefined {
    return this.#byKey.get(narrowKeyOf(key));
  }

  /** The model's inputs and outputs; undefined until it was loaded once. */
  metadata(key: string): ModelMetadata | undefined {
    return this.#metadata.get(key);
  }

  setMetadata(key: string, metadata: ModelMetadata): void {
    // The model may have been forgotten before its metadata arrived.
    if (this.#byKey.has(key)) this.#metadata.set(key, metadata);
  }

  /** Gives the model a key that no other model has at present. Requests can name it only after {@link put}. */
  register(found: FoundModel): RegisteredModel {
    const name = nameOf(found);
    const isTaken = this.#byKey.has(name);
    if (isTaken) this.#revisions += 1;
    const model = { ...found, key: isTaken ? `${name}#${this.#revisions}` : name };
    this.#byKey.set(model.key, model);
    this.#count(model.id, 1);
    return model;
  }

  /** Sets the models that requests for the id and its versions find. @param entry holds registered models only. */
  put(entry: CatalogEntry): void {
    this.remove(entry.id);
    this.#entries.set(entry.id, entry);
    for (const model of entry.served) this.#byTarget.set(nameOf(model), model);
    const model = defaultOf(entry);
    if (model !== undefined) this.#byTarget.set(entry.id, model);
  }

  /** Removes the id and its versions: requests can no longer name them. */
  remove(id: string): void {
    for (const model of this.#entries.get(id)?.served ?? []) this.#byTarget.delete(nameOf(model));
    this.#byTarget.delete(id);
    this.#entries.delete(id);
    this.#onChange();
  }

  /** The model that is served in the place of one that is not any more. */
  successorOf({ id, version, key }: RegisteredModel): RegisteredModel | undefined {
    const other = this.#byTarget.get(`${id}@${version}`);
    return other?.key === key ? undefined : other;
  }

  /** Call it when the model has no requests and no sessions left. */
  forget(key: string): void {
    const model = this.#byKey.get(key);
    if (model !== undefined) this.#count(model.id, -1);
    this.#byKey.delete(key);
    this.#metadata.delete(key);
  }

  /** Whether there is a model with the id: one that requests can name, or one that is on its way in or out. */
  has(id: string): boolean {
    return this.#counts.has(id) || this.#entries.has(id);
  }

  #count(id: string, change: 1 | -1): void {
    const count = (this.#counts.get(id) ?? 0) + change;
    if (count === 0) this.#counts.delete(id);
    else this.#counts.set(id, count);
  }

  /** Why {@link find} finds nothing under the name. */
  whyNot(target: string): InfermuxError {
    const [id = target] = target.split('@');
    const entry = this.#entries.get(id);
    if (entry !== undefined && entry.served.length === 0 && entry.problem !== undefined) {
      const { message, retryable } = entry.problem;
      return new InfermuxError('MODEL_LOAD_FAILED', message, { cause: entry.problem, retryable });
    }
    return new InfermuxError('MODEL_NOT_FOUND', `no model ${show(target)}; ${this.#hint(id, entry)}`);
  }

  #hint(id: string, entry: CatalogEntry | undefined): string {
    if (entry !== undefined) {
      const served = `versions of ${show(id)}: ${entry.served.map(({ version }) => version).join(', ')}`;
      const others = entry.versions.filter((version) => !entry.served.some((model) => model.version === version));
      if (others.length === 0) return served;
      const why = entry.problem === undefined ? '' : ` (${entry.problem.message})`;
      return `${served}; found, but not served: ${others.join(', ')}${why}`;
    }
    return `known models: ${showNames([...this.#entries.keys()])}`;
  }
}

/** The version that the id alone stands for; undefined when none is known. */
export function defaultOf({
  served,
  standsFor,
}: Pick<CatalogEntry, 'served' | 'standsFor'>): RegisteredModel | undefined {
  if (standsFor === null) return undefined;
  return served.find(({ version }) => version === standsFor) ?? served.at(-1);
}
