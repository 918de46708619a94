import type { Clock } from '../common/clock.js';
import type { WeightPlacement } from '../contracts/model-reference.js';
import type { ModelCatalog } from './model-catalog.js';
import type { ResolvedRepositoryOptions } from './model-manager-options.js';
import type { ModelReplicas } from './model-replicas.js';
import type { Pin } from './saved-pins.js';

/** The options of the engine that the model manager needs. */
export interface ModelManagerOptions {
  /** Undefined when the models are named one by one. */
  readonly directory: string | undefined;
  readonly repository: ResolvedRepositoryOptions;
  /** Of models that name none. */
  weights(): WeightPlacement;
}

/** What the model manager needs of the rest of the engine. */
export interface ModelManagerEnvironment {
  readonly catalog: ModelCatalog;
  readonly replicas: ModelReplicas;
  readonly clock: Clock;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
  /** Writes down what callers have pinned, before it is acted on. */
  savePins(pins: readonly Pin[]): Promise<void>;
  /** Keeps the process up as long as the work goes on. */
  during<T>(work: () => Promise<T>): Promise<T>;
}
