import type { Clock } from '../common/clock.js';
import type { WeightPlacement } from '../contracts/model-reference.js';
import type { ModelCacheOptions } from './cache/model-cache.js';
import type { StartThread } from './cache/thread/cache-thread.js';
import type { ResolvedFinder } from './finder/finder.js';
import type { SearchOutcome } from './finder/model-search.js';
import type { ModelCatalog } from './model-catalog.js';
import type { ResolvedRepositoryOptions } from './model-manager-options.js';
import type { ModelReplicas } from './model-replicas.js';
import type { Pin } from './saved-pins.js';
import type { CheckedSource } from './sources/model-sources.js';

/** The options of the engine that the model manager needs. */
export interface ModelManagerOptions {
  /** Undefined when the models are named one by one. */
  readonly directory: string | undefined;
  readonly repository: ResolvedRepositoryOptions;
  /** Undefined when there is no finder. */
  readonly finder: ResolvedFinder | undefined;
  readonly modelCache: ModelCacheOptions;
  /** The weight placement of models that name none. */
  weights(): WeightPlacement;
}

/** What the model manager needs of the rest of the engine. */
export interface ModelManagerEnvironment {
  readonly catalog: ModelCatalog;
  readonly replicas: ModelReplicas;
  readonly clock: Clock;
  log(level: 'info' | 'warn', fields: Readonly<Record<string, unknown>>, message: string): void;
  readonly startThread: StartThread;
  /** So many bytes of a model have come from elsewhere. */
  received(bytes: number): void;
  searched(outcome: SearchOutcome, milliseconds: number): void;
  /** Writes the pins of callers to the checkpoint, before they take effect. */
  savePins(pins: readonly Pin[]): Promise<void>;
  /** Writes the sources that were registered to the checkpoint, by `id@version`. */
  saveRegistered(sources: ReadonlyMap<string, CheckedSource>): Promise<void>;
  /** Keeps the process alive until the work settles. */
  during<T>(work: () => Promise<T>): Promise<T>;
}
