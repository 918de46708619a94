import { InfermuxError, show } from '../errors.js';
import { checkModelId } from '../model-id.js';
import type { ModelMetadata } from '../tensor.js';
import type { RegisteredModel } from './model-repository.js';

/** How many ids a message about an unknown one names. */
const IDS_IN_MESSAGE = 12;

/** The registered models, by id and version, and what became known of them. */
export class ModelCatalog {
  readonly #byKey = new Map<string, RegisteredModel>();
  readonly #latest = new Map<string, RegisteredModel>();
  readonly #metadata = new Map<string, ModelMetadata>();

  constructor(models: readonly RegisteredModel[]) {
    for (const model of models) this.#add(model);
  }

  get models(): RegisteredModel[] {
    return [...this.#byKey.values()];
  }

  /**
   * @param target a model id, which stands for its latest version, or `id@version`.
   * @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`.
   */
  resolve(target: unknown): RegisteredModel {
    checkModelId(target);
    const model = this.#latest.get(target) ?? this.#byKey.get(target);
    if (model === undefined) throw this.#notFound(target);
    return model;
  }

  byKey(key: string): RegisteredModel | undefined {
    return this.#byKey.get(key);
  }

  /** Inputs and outputs; undefined until the model was loaded once. */
  metadata(key: string): ModelMetadata | undefined {
    return this.#metadata.get(key);
  }

  setMetadata(key: string, metadata: ModelMetadata): void {
    this.#metadata.set(key, metadata);
  }

  #add(model: RegisteredModel): void {
    const other = this.#byKey.get(model.key);
    if (other !== undefined) {
      throw new InfermuxError(
        'MODEL_ALREADY_EXISTS',
        `models: ${model.key} is there twice, as ${other.path} and ${model.path}`,
      );
    }
    this.#byKey.set(model.key, model);
    const latest = this.#latest.get(model.id);
    if (latest === undefined || latest.version < model.version) this.#latest.set(model.id, model);
  }

  #notFound(target: string): InfermuxError {
    const id = target.split('@')[0] ?? target;
    const versions = this.models.filter((model) => model.id === id).map(({ version }) => version);
    const ids = [...this.#latest.keys()];
    const known = ids.slice(0, IDS_IN_MESSAGE).map(show).join(', ');
    const more = ids.length > IDS_IN_MESSAGE ? ` and ${ids.length - IDS_IN_MESSAGE} more` : '';
    const hint =
      versions.length > 0
        ? `versions of ${show(id)}: ${versions.join(', ')}`
        : `known models: ${known || 'none'}${more}`;
    return new InfermuxError('MODEL_NOT_FOUND', `no model ${show(target)}; ${hint}`);
  }
}
