import { isBoolean, type Rule } from '../common/checks.js';
import type { ModelFormat, WeightPlacement } from '../contracts/model-reference.js';
import type { ReplicaModelState } from './reports/load-records.js';
import type { VersionPolicy } from './sources/manifest.js';

/** Options for watching a directory of models and for loading models. */
export interface RepositoryOptions {
  /**
   * Whether the first request for a model loads it. If false, requests for a model that is not loaded are refused.
   * Default true.
   */
  readonly lazy?: boolean | undefined;
  /** Whether to load every model in one replica: at the start, and new ones when they are found. Default false. */
  readonly loadOnStart?: boolean | undefined;
  /**
   * Whether `createEngine` waits for the loads of pinned models, and with `loadOnStart` of all models. Default true.
   */
  readonly waitForInitialLoad?: boolean | undefined;
  /**
   * Number of retries after a failed load, if the call did not set `retries`: loads for requests, at the start, and of
   * new models. The first retry is after 1 s; each further delay is twice as long. Requests wait meanwhile. Default 0.
   */
  readonly retries?: number | undefined;
  /**
   * Milliseconds between two checks of the directory for changes. Default 0: no regular checks. The directory is still
   * checked at the start, for an unknown id, after a load that found changed files, and while files are being written.
   */
  readonly pollMs?: number | undefined;
  /**
   * Milliseconds for which a model's files must not change before it is served; until then they count as being written.
   * Default 50.
   */
  readonly settleMs?: number | undefined;
  /** Whether `pinned` in a `model.json` applies. Default true. */
  readonly pinned?: boolean | undefined;
  /** Which versions of a model are served if its `model.json` does not set them. Default `'latest'`. */
  readonly versions?: VersionPolicy | undefined;
}

export type ResolvedRepositoryOptions = {
  readonly [K in keyof RepositoryOptions]-?: NonNullable<RepositoryOptions[K]>;
};

export interface LoadOptions {
  /** The deployment whose replicas load it. Default: `default`, or the first one with replicas if that has none. */
  readonly deployment?: string | undefined;
  /** How many replicas load it. Default 1. */
  readonly replicas?: number | 'all' | undefined;
  /**
   * Whether these replicas never evict it until it is unloaded; if one of them is replaced, the new one loads it.
   * Default false.
   */
  readonly pin?: boolean | undefined;
  /** Whether the promise waits for the load. If not, a failure is logged. Default true. */
  readonly wait?: boolean | undefined;
  /**
   * Maximum number of retries after a failed load: the first after 1 s, each further one after twice the delay. Default
   * 0.
   */
  readonly retries?: number | undefined;
  /** Milliseconds until the promise is rejected with `DEADLINE_EXCEEDED`; the load continues. Default -1: never. */
  readonly timeoutMs?: number | undefined;
}

/** What happens with a model that is deployed or registered. */
export interface DeployOptions {
  /**
   * Whether a replica loads it as a test before it is served. It is unloaded again, except with `load` or `pin`.
   * Default true. If no replica runs, there is no test. A version that replaces one in use is always tested.
   */
  readonly verify?: boolean | undefined;
  /** Whether to load it. Default: only with `replicas` or `pin`. */
  readonly load?: boolean | undefined;
  /** How many replicas of the default deployment load it. Default 1. */
  readonly replicas?: number | 'all' | undefined;
  /** As in {@link LoadOptions}. Default false. */
  readonly pin?: boolean | undefined;
}

export interface SyncOptions {
  /** Whether to wait until all loads and unloads are done. Default true. */
  readonly wait?: boolean | undefined;
  /** Whether to load new and changed models. Default: only if `repository.lazy` is false. */
  readonly load?: boolean | undefined;
}

export const SYNC_RULES: Readonly<Record<keyof SyncOptions, Rule>> = { wait: isBoolean, load: isBoolean };

/** A snapshot of one version of a model. */
export interface ModelReport {
  readonly id: string;
  /** Undefined for a model with a problem and no served version. */
  readonly version: number | undefined;
  /** Whether the id alone means this version. */
  readonly isDefault: boolean;
  readonly path: string | undefined;
  readonly format: ModelFormat | undefined;
  /** Where a finder found it: a URL without its query, a path, `stream` or `memory`. Undefined for other models. */
  readonly origin: string | undefined;
  /** When the finder last returned it: milliseconds as of `Date.now()`. */
  readonly lookedAt: number | undefined;
  /** Size of its files. */
  readonly bytes: number;
  /** Bytes of memory that a session is expected to take. */
  readonly estimatedBytes: number;
  /** The configured placement. Small models, and models that cannot be compiled, are always private. */
  readonly weights: WeightPlacement;
  readonly isPinned: boolean;
  readonly licence: string | undefined;
  /** Why its current files are not served; undefined when they are. Earlier files, if any, are still served. */
  readonly problem: string | undefined;
  /**
   * Whether a request for it would be accepted now. False for a model that is not loaded if `repository.lazy` is false,
   * and for one whose last load failed in every replica.
   */
  readonly isReady: boolean;
  readonly replicas: readonly ReplicaModelState[];
}
