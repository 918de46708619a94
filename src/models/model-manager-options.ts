import type { ModelFormat, WeightPlacement } from '../contracts/model-reference.js';
import type { ReplicaModelState } from './reports/load-records.js';
import type { VersionPolicy } from './sources/manifest.js';

/** How a directory of models is followed, and when models are loaded. */
export interface RepositoryOptions {
  /** Load a model when it is first asked for. Otherwise one that was not loaded is refused. Default true. */
  readonly lazy?: boolean | undefined;
  /** Load every model at the start, in one replica each. Default false. */
  readonly loadOnStart?: boolean | undefined;
  /** Whether `createEngine` waits for what is loaded at the start: pinned models, and all with `loadOnStart`. Default true. */
  readonly waitForInitialLoad?: boolean | undefined;
  /** Milliseconds between two looks at the directory. 0: none after the first, the default. */
  readonly pollMs?: number | undefined;
  /** A model whose files change within so many milliseconds is still being written, and left for later. Default 50. */
  readonly settleMs?: number | undefined;
  /** Which versions are served of a model that does not say so itself. Default `'latest'`. */
  readonly versions?: VersionPolicy | undefined;
}

export type ResolvedRepositoryOptions = {
  readonly [K in keyof RepositoryOptions]-?: NonNullable<RepositoryOptions[K]>;
};

export interface LoadOptions {
  /** In whose replicas. Default: the one named `default`, or where that has none the first that has. */
  readonly deployment?: string | undefined;
  /** How many replicas are to have it. Default 1. */
  readonly replicas?: number | 'all' | undefined;
  /** Never evict it there, and load it again when such a replica is replaced; until it is unloaded. Default false. */
  readonly pin?: boolean | undefined;
  /** Whether the promise waits for the load; otherwise a failure is logged. Default true. */
  readonly wait?: boolean | undefined;
  /** Further attempts after one that failed, the first after 1 s, then after twice as long each. Default 0. */
  readonly retries?: number | undefined;
  /** Milliseconds after which the promise is rejected with `DEADLINE_EXCEEDED`; the load goes on. -1: never, the default. */
  readonly timeoutMs?: number | undefined;
}

export interface SyncOptions {
  /** Whether to wait until all loads and unloads are done. Default true. */
  readonly wait?: boolean | undefined;
  /** Load what is new or has changed. Default: only where models are not loaded lazily. */
  readonly load?: boolean | undefined;
}

/** What is known of one version of a model. A snapshot. */
export interface ModelReport {
  readonly id: string;
  /** Undefined for a model that has a problem and no version that is served. */
  readonly version: number | undefined;
  /** Whether the id alone stands for this version. */
  readonly isDefault: boolean;
  readonly path: string | undefined;
  readonly format: ModelFormat | undefined;
  /** Of its files. */
  readonly bytes: number;
  /** Memory that a session is expected to take. */
  readonly estimatedBytes: number;
  /** What was asked for; small models, and those that cannot be compiled, are private all the same. */
  readonly weights: WeightPlacement;
  readonly isPinned: boolean;
  readonly licence: string | undefined;
  /** Why its files as they are now are not served, if so; what is served are those before. */
  readonly problem: string | undefined;
  readonly replicas: readonly ReplicaModelState[];
}
