import type { Registry } from 'prom-client';
import type { EngineLogger } from '../contracts/logger.js';
import type { DeploymentOptions } from '../deployments/config/deployment-options.js';
import type { ModelFinder } from '../models/finder/finder.js';
import type { RepositoryOptions } from '../models/model-manager-options.js';
import type { ModelSources } from '../models/sources/model-sources.js';

/** Options of the engine. Those of a deployment apply to the deployment `default`. */
export interface EngineOptions extends DeploymentOptions {
  /**
   * A directory of models, by its path or `file:` URL; models by id: the path, the `file:` URL or the bytes of each; or a
   * finder, as in `finder`. Default: none.
   */
  readonly models?: string | URL | ModelSources | ModelFinder | undefined;
  /** Finds the models that are not in `models`: see `httpFinder`. Default: none. */
  readonly finder?: ModelFinder | undefined;
  /** Where models from a finder are cached, and the maximum bytes of the cache. */
  readonly modelCache?: ModelCacheSettings | undefined;
  /** Maximum bytes of a model that a finder has found; a larger one is refused. Default -1: no limit. */
  readonly maxModelBytes?: number | undefined;
  /** How the directory is watched, and when models are loaded. */
  readonly repository?: RepositoryOptions | undefined;
  /** More deployments, by name. Default: none. */
  readonly deployments?: Readonly<Record<string, DeploymentOptions>> | undefined;
  /**
   * A file that saves the wanted deployments, endpoints, models and pins, so that the next engine continues where this
   * one stopped. Default: none.
   */
  readonly checkpoint?: CheckpointOptions | undefined;
  /**
   * What happens if more replicas are wanted than fit into the memory and the cores of the machine, according to
   * `resources`. `'warn'`: they start, and a warning says how many would fit. `'refuse'`: a deployment or a change that
   * does not fit fails with `FAILED_PRECONDITION`, and autoscaling adds only replicas that fit. Default `'warn'`.
   */
  readonly overcommit?: Overcommit | undefined;
  /** Where compiled models with shared weights are stored, and the maximum bytes of the store. */
  readonly weightStore?: WeightStoreOptions | undefined;
  /** A pino logger, `console`, or another object with these four methods. Default: no log. */
  readonly logger?: EngineLogger | undefined;
  /** The prom-client registry of the metrics. Default: a new one, `engine.metrics`. */
  readonly registry?: Registry | undefined;
  /** Which metrics there are. */
  readonly metrics?: MetricsOptions | undefined;
}

export const OVERCOMMITS = ['warn', 'refuse'] as const;

export type Overcommit = (typeof OVERCOMMITS)[number];

export interface MetricsOptions {
  /** Whether metrics are labelled with model ids. Default true. */
  readonly modelLabels?: boolean | undefined;
  /**
   * Maximum number of models with their own time series: the busiest ones. The others, and models that were removed,
   * share the label `(other)`. Default 200.
   */
  readonly maxModels?: number | undefined;
  /**
   * Upper bounds of the buckets of times, in seconds and in ascending order, at most 64. Default: 16 from 0.1 ms to 10 s,
   * and 30, 60, 120, 300 and 600 s.
   */
  readonly buckets?: readonly number[] | undefined;
  /**
   * Whether to add metrics with Triton's names, such as `nv_inference_request_success` and
   * `nv_inference_pending_request_count`, for dashboards, autoscalers and endpoint pickers that expect them. Default
   * false.
   */
  readonly triton?: boolean | undefined;
}

export interface CheckpointOptions {
  /**
   * Path or `file:` URL of the file. Only one engine may use it at a time. It contains the paths of modules that the
   * engine will run, so it is written with mode 600, and a world-writable file is refused.
   */
  readonly file: string | URL;
}

/** Where models from a finder are cached. */
export interface ModelCacheSettings {
  /**
   * Path or `file:` URL of the directory. Several processes of one user may share it. Default: `infermux/models` in the
   * user's cache folder.
   */
  readonly directory?: string | URL | undefined;
  /** Maximum bytes in it. The least recently used models are deleted, except those in use. Default 16 GiB. */
  readonly maxBytes?: number | undefined;
}

/** Where compiled models with shared weights are stored. */
export interface WeightStoreOptions {
  /**
   * Path or `file:` URL of the directory. Several processes of one user may share it. One that belongs to another user,
   * or that is world-writable, is not used: models are then loaded with private weights, with a warning. Default:
   * `infermux/weights` in the user's cache folder.
   */
  readonly directory?: string | URL | undefined;
  /**
   * Maximum bytes in it. The least recently used models are deleted. A compiled model is up to twice as large as its
   * file. Default 8 GiB.
   */
  readonly maxBytes?: number | undefined;
}

export interface CloseOptions {
  /**
   * Milliseconds for accepted requests. Those without an answer by then are rejected with `ENGINE_CLOSED`. Default:
   * `gracefulShutdownTimeoutMs`.
   */
  readonly graceMs?: number | undefined;
}
