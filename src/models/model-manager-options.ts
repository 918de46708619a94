import { isBoolean, type Rule } from '../common/checks.js';
import type { ModelFormat, WeightPlacement } from '../contracts/model-reference.js';
import type { ReplicaModelState } from './reports/load-records.js';
import type { VersionPolicy } from './sources/manifest.js';

/** Options for following a directory of models and for loading models. */
export interface RepositoryOptions {
  /** Load a model at its first request. Otherwise requests for a model that is not loaded are refused. Default true. */
  readonly lazy?: boolean | undefined;
  /** Load every model in one replica each: at the start, and what a later look finds. Default false. */
  readonly loadOnStart?: boolean | undefined;
  /** Whether `createEngine` waits for the loads of pinned models, and with `loadOnStart` of all. Default true. */
  readonly waitForInitialLoad?: boolean | undefined;
  /**
   * Further attempts at loads that name none: of requests, at the start, and of what a look finds. The first after 1 s,
   * each later one after twice the pause; requests wait meanwhile. Default 0.
   */
  readonly retries?: number | undefined;
  /** Milliseconds between two looks at the directory. Default 0: it is looked at again only while a model is unsettled. */
  readonly pollMs?: number | undefined;
  /** Milliseconds. A model whose files change within them is still being written: a later look takes it. Default 50. */
  readonly settleMs?: number | undefined;
  /** Whether `pinned` in a `model.json` counts. Default true. */
  readonly pinned?: boolean | undefined;
  /** The versions that are served of a model whose `model.json` does not say. Default `'latest'`. */
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
  /** Never evict it there until it is unloaded, and load it again when such a replica is replaced. Default false. */
  readonly pin?: boolean | undefined;
  /** Whether the promise waits for the load. If not, a failure is logged. Default true. */
  readonly wait?: boolean | undefined;
  /** Further attempts after a failed one: the first after 1 s, each later one after twice the pause. Default 0. */
  readonly retries?: number | undefined;
  /** Milliseconds until the promise is rejected with `DEADLINE_EXCEEDED`; the load goes on. Default -1: never. */
  readonly timeoutMs?: number | undefined;
}

/** What is done with a model that is deployed or registered. */
export interface DeployOptions {
  /**
   * Whether it must be shown to load before it is served: a replica loads it, and unloads it again unless `load` or `pin`
   * says otherwise. Default true. While no replica runs, nothing is tried. A version that takes the place of
   * one that is served is always tried.
   */
  readonly verify?: boolean | undefined;
  /** Load it. Default: only with `replicas` or `pin`. */
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
  /** Whether the id alone stands for this version. */
  readonly isDefault: boolean;
  readonly path: string | undefined;
  readonly format: ModelFormat | undefined;
  /** Where a finder has found it: a URL without its query, a path, `stream` or `memory`. Undefined for other models. */
  readonly origin: string | undefined;
  /** When the finder last said so: milliseconds as of `Date.now()`. */
  readonly lookedAt: number | undefined;
  /** Size of its files. */
  readonly bytes: number;
  /** Bytes of memory that a session is expected to take. */
  readonly estimatedBytes: number;
  /** The configured placement. Small models, and models that cannot be compiled, are private all the same. */
  readonly weights: WeightPlacement;
  readonly isPinned: boolean;
  readonly licence: string | undefined;
  /** Why its current files are not served; undefined when they are. Earlier files, if any, are still served. */
  readonly problem: string | undefined;
  /**
   * Whether a request for it would be taken now. False for a model that is not loaded if `repository.lazy` is false, and
   * for one whose last load failed in every replica.
   */
  readonly isReady: boolean;
  readonly replicas: readonly ReplicaModelState[];
}
