import type { InferenceEngine } from '../../index.js';
import { type ServedNames, targetOf } from './served-names.js';
import type { InferenceStatistics, ModelStatistics } from './statistics.js';

/** Tells the statistics of what has a name. */
export class StatisticsReport {
  readonly #engine: InferenceEngine;
  readonly #names: ServedNames;
  readonly #statistics: InferenceStatistics;

  constructor(engine: InferenceEngine, names: ServedNames, statistics: InferenceStatistics) {
    this.#engine = engine;
    this.#names = names;
    this.#statistics = statistics;
  }

  /**
   * Statistics of the versions of a model, of one version, or of all models.
   *
   * @param name empty: all.
   * @throws InfermuxError `MODEL_NOT_FOUND`.
   */
  async of(name: string, version: string | undefined): Promise<ModelStatistics[]> {
    const all = this.#engine.models.list();
    if (name === '') {
      const versions = all.map(({ id, version: own = 1 }) => this.#statistics.read(id, own));
      return [...versions, ...this.#names.handlers().map((handler) => this.#statistics.read(handler, 1))];
    }
    const thing = await this.#names.find(targetOf(name, version));
    if (thing.kind === 'endpoint') {
      return (await Promise.all(thing.targets.map((target) => this.of(target, undefined)))).flat();
    }
    if (thing.kind === 'handler') return [this.#statistics.read(thing.deployment, 1)];
    const { id, version: own = 1 } = thing.report;
    if (version !== undefined && version !== '') return [this.#statistics.read(id, own)];
    return all.filter((report) => report.id === id).map((report) => this.#statistics.read(id, report.version ?? 1));
  }
}
