import { show } from '../../common/errors.js';
import { lookFailed } from '../../common/files/system-errors.js';
import type { FoundModel } from '../registered-model.js';
import type { ModelScanner, RepositoryScan, ScannedModel } from '../repository/scanned-model.js';
import { ModelFileReader } from './model-files.js';
import { type CheckedSource, readSources } from './model-sources.js';

/** The models that are named one by one. Their files can be looked at again. */
export class NamedModels implements ModelScanner {
  /** As they were at the start. */
  readonly found: readonly FoundModel[];
  readonly #files: ModelFileReader;

  private constructor(found: readonly FoundModel[], files: ModelFileReader) {
    this.found = found;
    this.#files = files;
  }

  /** @throws InfermuxError as {@link readSources}. */
  static async read(sources: Readonly<Record<string, CheckedSource>>): Promise<NamedModels> {
    const files = new ModelFileReader();
    return new NamedModels(await readSources(sources, files), files);
  }

  async scan(only?: string): Promise<RepositoryScan> {
    const wanted = this.found.filter(({ id }) => only === undefined || id === only);
    const models = await Promise.all(wanted.map((model) => this.#look(model)));
    return { models: new Map(models.map((model) => [model.id, model])), passedOver: new Map(), isEmpty: false };
  }

  async #look(model: FoundModel): Promise<ScannedModel> {
    const { id, version, path, contents } = model;
    const scanned = { id, versions: [version], changedAt: 0, problem: undefined };
    if (contents !== undefined) return { ...scanned, served: [model] };
    try {
      const { changedAt, ...read } = await this.#files.read(path);
      return { ...scanned, changedAt, served: [{ ...model, ...read }] };
    } catch (cause) {
      return { ...scanned, served: [], problem: lookFailed('FAILED_PRECONDITION', `model ${show(id)}`, cause) };
    }
  }
}
