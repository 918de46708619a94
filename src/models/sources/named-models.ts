import { show } from '../../common/errors.js';
import { lookFailed } from '../../common/files/system-errors.js';
import { type FoundModel, nameOf } from '../registered-model.js';
import type { ModelScanner, RepositoryScan, ScannedModel } from '../repository/scanned-model.js';
import { ModelFileReader } from './model-files.js';

/** The models that are named one by one. Their files can be looked at again. */
export class NamedModels implements ModelScanner {
  readonly files = new ModelFileReader();
  /** By `id@version`. */
  readonly #models = new Map<string, FoundModel>();

  /** @returns the model that was there under the same name. */
  put(model: FoundModel): FoundModel | undefined {
    const before = this.#models.get(nameOf(model));
    this.#models.set(nameOf(model), model);
    return before;
  }

  /** @param version undefined: all. @returns the models that were there. */
  delete(id: string, version: number | undefined): FoundModel[] {
    const gone = this.of(id).filter((model) => version === undefined || model.version === version);
    for (const model of gone) this.#models.delete(nameOf(model));
    return gone;
  }

  /** All versions of the id, in their order. */
  of(id: string): FoundModel[] {
    const own = [...this.#models.values()].filter((model) => model.id === id);
    return own.sort((left, right) => left.version - right.version);
  }

  async scan(only?: string, except?: number): Promise<RepositoryScan> {
    const ids = only === undefined ? new Set([...this.#models.values()].map(({ id }) => id)) : [only];
    const models = new Map<string, ScannedModel>();
    for (const id of ids) {
      const wanted = this.of(id).filter(({ version }) => version !== except);
      if (wanted.length > 0) models.set(id, await this.#look(id, wanted));
    }
    return { models, passedOver: new Map(), isEmpty: false };
  }

  async #look(id: string, models: readonly FoundModel[]): Promise<ScannedModel> {
    const versions = models.map(({ version }) => version);
    try {
      const looks = await Promise.all(models.map((model) => this.#read(model)));
      const changedAt = Math.max(...looks.map((look) => look.changedAt));
      return { id, versions, changedAt, problem: undefined, served: looks.map(({ model }) => model) };
    } catch (cause) {
      const problem = lookFailed('FAILED_PRECONDITION', `model ${show(id)}`, cause);
      return { id, versions, changedAt: 0, served: [], problem };
    }
  }

  async #read(model: FoundModel): Promise<{ readonly model: FoundModel; readonly changedAt: number }> {
    if (model.contents !== undefined) return { model, changedAt: 0 };
    const { changedAt, ...read } = await this.files.read(model.path);
    return { model: { ...model, ...read }, changedAt };
  }
}
