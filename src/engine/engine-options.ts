import type { Registry } from 'prom-client';
import type { EngineLogger } from '../contracts/logger.js';
import type { DeploymentOptions } from '../deployments/config/deployment-options.js';
import type { ModelFinder } from '../models/finder/finder.js';
import type { RepositoryOptions } from '../models/model-manager-options.js';
import type { ModelSources } from '../models/sources/model-sources.js';

/** Options of the engine. The options of a deployment among them are those of the deployment named `default`. */
export interface EngineOptions extends DeploymentOptions {
  /**
   * A directory of models, by its path or `file:` URL; models by id: the path, the `file:` URL or the bytes of each; or a
   * finder, as in `finder`. Default: none.
   */
  readonly models?: string | URL | ModelSources | ModelFinder | undefined;
  /** Finds the models that are not in `models`: see `httpFinder`. Default: none. */
  readonly finder?: ModelFinder | undefined;
  /** Where models are kept that a finder has found elsewhere, and how many bytes of them. */
  readonly modelCache?: ModelCacheSettings | undefined;
  /** Most bytes of a model that a finder has found; a larger one is refused. -1: no limit, the default. */
  readonly maxModelBytes?: number | undefined;
  /** How the directory is followed, and when models are loaded. */
  readonly repository?: RepositoryOptions | undefined;
  /** More deployments, by name. Default: none. */
  readonly deployments?: Readonly<Record<string, DeploymentOptions>> | undefined;
  /**
   * A file that records the wanted deployments, endpoints, models and pins, so that the next engine continues where
   * this one stopped. Default: none.
   */
  readonly checkpoint?: CheckpointOptions | undefined;
  /**
   * What becomes of more replicas than fit on the machine, by its cores and its memory and by the `resources` that
   * deployments declare. `'warn'`: they start, and a warning says how many would fit. `'refuse'`: a deployment or a change
   * that does not fit is `FAILED_PRECONDITION`, and autoscaling goes no further. Default `'warn'`.
   */
  readonly overcommit?: Overcommit | undefined;
  /** Where compiled models with shared weights are kept, and how many bytes of them. */
  readonly weightStore?: WeightStoreOptions | undefined;
  /** A pino logger, `console`, or another object with these four methods. Default: nobody logs. */
  readonly logger?: EngineLogger | undefined;
  /** Where the metrics are registered. Default: a registry of the engine's own, `engine.metrics`. */
  readonly registry?: Registry | undefined;
  /** Which series the metrics have. */
  readonly metrics?: MetricsOptions | undefined;
}

export const OVERCOMMITS = ['warn', 'refuse'] as const;

export type Overcommit = (typeof OVERCOMMITS)[number];

export interface MetricsOptions {
  /** Whether metrics are labelled with model ids. Default true. */
  readonly modelLabels?: boolean | undefined;
  /**
   * Most models with series of their own: the busiest ones. The others share series with the label `(other)`, and so do
   * models that are gone. Default 200.
   */
  readonly maxModels?: number | undefined;
  /**
   * Upper bounds of the buckets of times, in seconds and in ascending order, at most 64. Default: 16 from 0.1 ms to 10 s,
   * and 30, 60, 120, 300 and 600 s.
   */
  readonly buckets?: readonly number[] | undefined;
  /**
   * Whether the counts of models are there under Triton's names, too, like `nv_inference_request_success` and
   * `nv_inference_pending_request_count`: for dashboards, autoscalers and endpoint pickers that know these. Default false.
   */
  readonly triton?: boolean | undefined;
}

export interface CheckpointOptions {
  /**
   * Path or `file:` URL of the file. Only one engine may use it at a time. It names code that is run: the engine writes
   * it with mode 600, and refuses one that anybody could have written.
   */
  readonly file: string | URL;
}

/** Where models are kept that a finder has found elsewhere. */
export interface ModelCacheSettings {
  /**
   * Path or `file:` URL of the directory. Several processes of one user may share it. Default: `infermux/models` in the
   * user's cache folder.
   */
  readonly directory?: string | URL | undefined;
  /** Most bytes in it; those leave that were not used for longest, but none that is in use. Default 16 GiB. */
  readonly maxBytes?: number | undefined;
}

/** Where compiled models with shared weights are kept. */
export interface WeightStoreOptions {
  /**
   * Path or `file:` URL of the directory. Several processes of one user may share it. One that belongs to another user,
   * or that anybody may change, is not used: models are then loaded with weights of their own, and a warning says so.
   * Default: `infermux/weights` in the user's cache folder.
   */
  readonly directory?: string | URL | undefined;
  /** Most bytes in it; the least recently used leave. A compiled model takes up to twice its file. Default 8 GiB. */
  readonly maxBytes?: number | undefined;
}

export interface CloseOptions {
  /**
   * Milliseconds that accepted work may go on. Requests without an answer by then are rejected with `ENGINE_CLOSED`.
   * Default: `gracefulShutdownTimeoutMs`.
   */
  readonly graceMs?: number | undefined;
}
