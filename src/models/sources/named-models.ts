import { show } from '../../common/errors.js';
import { lookFailed } from '../../common/files/system-errors.js';
import { type FoundModel, nameOf } from '../registered-model.js';
import type { BrokenVersion, ModelScanner, RepositoryScan, ScannedModel } from '../repository/scanned-model.js';
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
    const paths = [...this.#models.values()].flatMap(({ files = [] }) => files.map(({ path }) => path));
    this.files.keepOnly(new Set(paths));
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
    const broken: BrokenVersion[] = [];
    const looks = models.map((model) =>
      this.#read(model).catch((cause) => {
        const problem = lookFailed('FAILED_PRECONDITION', `model ${show(id)}`, cause);
        broken.push({ version: model.version, problem });
      }),
    );
    const read = (await Promise.all(looks)).filter((look) => look !== undefined);
    const served = read.map(({ model }) => model);
    const changedAt = Math.max(0, ...read.map((look) => look.changedAt));
    // What the system cannot answer leaves the model as it is.
    const unanswered = broken.find(({ problem }) => problem.retryable);
    const problem = (unanswered ?? (served.length === 0 ? broken[0] : undefined))?.problem;
    return problem === undefined
      ? { id, versions, changedAt, problem, served, broken }
      : { id, versions, changedAt: 0, problem, served: [] };
  }

  async #read(model: FoundModel): Promise<{ readonly model: FoundModel; readonly changedAt: number }> {
    if (model.contents !== undefined) return { model, changedAt: 0 };
    const { changedAt, ...read } = await this.files.read(model.path);
    return { model: { ...model, ...read }, changedAt };
  }
}
