import type { Clock } from '../../common/clock.js';
import type { InfermuxError } from '../../common/errors.js';
import { checkModelId } from '../../common/model-id.js';
import type { SessionWeights, WeightPlacement } from '../../contracts/model-reference.js';
import type { Find } from '../finder/found/found-models.js';
import type { CatalogEntry, ModelCatalog } from '../model-catalog.js';
import type { ModelReport } from '../model-manager-options.js';
import type { ModelReplicas } from '../model-replicas.js';
import type { PinnedModels } from '../pinned-models.js';
import type { RegisteredModel } from '../registered-model.js';
import { LoadRecords, type ReplicaModelState } from './load-records.js';
import { SizeEstimator } from './size-estimator.js';

export interface ModelReportsEnvironment {
  readonly catalog: ModelCatalog;
  readonly replicas: ModelReplicas;
  readonly pinned: PinnedModels;
  readonly clock: Clock;
  /** Where models keep their weights unless they say so themselves. */
  weights(): WeightPlacement;
  /** Whether a request may run the model, loaded or not. */
  mayRun(model: RegisteredModel): boolean;
  /** Where and when a finder has found the model, if one has. */
  lookOf(model: RegisteredModel): Pick<Find, 'origin' | 'lookedAt'> | undefined;
}

/** Tells what is known of each model, with what its loads took and why they failed. */
export class ModelReports {
  readonly #environment: ModelReportsEnvironment;
  readonly #catalog: ModelCatalog;
  readonly #records: LoadRecords;
  readonly #sizes: SizeEstimator;

  constructor(environment: ModelReportsEnvironment) {
    this.#environment = environment;
    this.#catalog = environment.catalog;
    this.#records = new LoadRecords(() => environment.clock.now());
    this.#sizes = new SizeEstimator(() => environment.weights());
  }

  /** One report for each version that is served, and one for each model that has a problem and no such version. */
  list(): ModelReport[] {
    return [...this.#catalog.entries].flatMap((entry) =>
      entry.served.length > 0 ? entry.served.map((model) => this.of(model)) : [this.#problemOf(entry)],
    );
  }

  /** @throws InfermuxError `INVALID_ARGUMENT`, `MODEL_NOT_FOUND`. */
  get(target: string): ModelReport {
    const model = this.#catalog.find(target);
    if (model !== undefined) return this.of(model);
    checkModelId(target);
    const entry = this.#catalog.entry(target);
    if (entry !== undefined && entry.served.length === 0) return this.#problemOf(entry);
    return this.of(this.#catalog.resolve(target));
  }

  of(model: RegisteredModel): ModelReport {
    const { id, version, path, format, bytes, licence, key } = model;
    const { problem } = this.#catalog.entry(id) ?? {};
    const { origin, lookedAt } = this.#environment.lookOf(model) ?? {};
    const replicas = this.#environment.replicas.running().map((replica) => this.#records.stateOf(replica, key));
    return {
      ...{ id, version, path, format, bytes, licence, origin, lookedAt },
      isDefault: this.#catalog.find(id) === model,
      estimatedBytes: this.#sizes.estimate(model),
      weights: model.weights ?? this.#environment.weights(),
      isPinned: this.#environment.pinned.has(model),
      problem: problem?.message,
      isReady: this.#environment.mayRun(model) && !haveAllFailed(replicas),
      replicas,
    };
  }

  /** Bytes of memory that a session of the model is expected to take. */
  estimatedBytes(model: RegisteredModel): number {
    return this.#sizes.estimate(model);
  }

  /** @param memory bytes that the load took. */
  loaded(replica: string, model: RegisteredModel, memory: number, weights: SessionWeights): void {
    this.#records.loaded(replica, model.key);
    this.#sizes.loaded(model, memory, weights);
  }

  shares(model: RegisteredModel): void {
    this.#sizes.shares(model);
  }

  loadFailed(replica: string, key: string, error: InfermuxError, nextTryInMs: number): void {
    this.#records.failed(replica, key, error, nextTryInMs);
  }

  forgetReplica(replica: string): void {
    this.#records.forgetReplica(replica);
  }

  forgetModel(key: string): void {
    this.#records.forgetModel(key);
    this.#sizes.forget(key);
  }

  #problemOf({ id, problem }: CatalogEntry): ModelReport {
    const weights = this.#environment.weights();
    return {
      ...{ id, version: undefined, isDefault: false, path: undefined, format: undefined, bytes: 0, estimatedBytes: 0 },
      ...{ origin: undefined, lookedAt: undefined },
      ...{ weights, isPinned: false, licence: undefined, problem: problem?.message },
      ...{ isReady: false, replicas: [] },
    };
  }
}

function haveAllFailed(replicas: readonly ReplicaModelState[]): boolean {
  return replicas.length > 0 && replicas.every(({ state }) => state === 'failed');
}
