import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import envPaths from 'env-paths';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import { type Batching, checkBatching } from './batching.js';
import {
  checkOptions,
  hasMethods,
  isBoolean,
  isInteger,
  isMilliseconds,
  isObject,
  isText,
  type Rule,
  satisfies,
} from './check.js';
import { InfermuxError, show } from './errors.js';
import type { WeightPlacement } from './model-reference.js';
import { isVersionPolicy, isWeightPlacement } from './models/manifest.js';
import type { RepositoryOptions, ResolvedRepositoryOptions } from './models/model-manager-options.js';
import type { ModelSource } from './models/model-sources.js';
import { readSession } from './session-settings.js';

/** An execution provider by name, or with options of its own: `{ name: 'cuda', deviceId: 0 }`. */
export type ExecutionProvider = string | { readonly name: string };

/**
 * Passed through to onnxruntime-node's `InferenceSession.create`, whose own `SessionOptions` fit as they are. Keys that it
 * does not know it ignores.
 */
export interface SessionOptions {
  /** In order of preference. Default `['cpu']`. One that is not available fails the load. */
  readonly executionProviders?: readonly ExecutionProvider[] | undefined;
  /** Threads within one operator. Default 1: the replicas are the parallelism. */
  readonly intraOpNumThreads?: number | undefined;
  readonly interOpNumThreads?: number | undefined;
  readonly graphOptimizationLevel?: 'disabled' | 'basic' | 'extended' | 'layout' | 'all' | undefined;
  readonly executionMode?: 'sequential' | 'parallel' | undefined;
  readonly enableCpuMemArena?: boolean | undefined;
  readonly enableMemPattern?: boolean | undefined;
  readonly enableGraphCapture?: boolean | undefined;
  readonly enableProfiling?: boolean | undefined;
  readonly profileFilePrefix?: string | undefined;
  readonly optimizedModelFilePath?: string | undefined;
  readonly logId?: string | undefined;
  /** 0 verbose … 4 fatal. Default 4: errors come as exceptions. */
  readonly logSeverityLevel?: 0 | 1 | 2 | 3 | 4 | undefined;
  readonly logVerbosityLevel?: number | undefined;
  readonly externalData?: readonly unknown[] | undefined;
  readonly preferredOutputLocation?: unknown;
  readonly freeDimensionOverrides?: Readonly<Record<string, number>> | undefined;
  /** Further settings of onnxruntime, by its own names, as nested objects of strings. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
}

export interface EngineOptions {
  /** A directory of models, or models by id: paths, or the bytes of models that are in no file. Default: none. */
  readonly models?: string | Readonly<Record<string, string | Uint8Array | ModelSource>> | undefined;
  /** How the directory is followed, and when models are loaded. */
  readonly repository?: RepositoryOptions | undefined;
  /** Worker threads, each with its own sessions; about 10 MB each. Default: one for each core this process may use. */
  readonly replicas?: number | undefined;
  /** Most sessions in one replica; the least recently used leaves for a new one. -1: no limit. Default 3. */
  readonly maxModelsPerReplica?: number | undefined;
  /** Most bytes of model files whose sessions are in one replica. -1: no limit, the default. */
  readonly maxModelBytesPerReplica?: number | undefined;
  /** Milliseconds unused after which a session leaves. -1: never, the default. */
  readonly modelIdleTimeoutMs?: number | undefined;
  /**
   * Most requests that one replica has been given and not finished. -1, the default: as many as go in two messages, one
   * that runs and one that is there already when the runs are short. 1: none is ever joined or given ahead.
   */
  readonly maxOngoingRequests?: number | undefined;
  /** Most requests that wait for a replica; one more is refused with `QUEUE_FULL`. -1: no limit. Default 4096. */
  readonly maxQueuedRequests?: number | undefined;
  /** Milliseconds that a request may take when it names no time of its own. -1: no limit, the default. */
  readonly defaultTimeoutMs?: number | undefined;
  /**
   * Joins requests of one model to one call where that gives the same results. Default `'auto'`; a model's `model.json` may
   * say otherwise for itself.
   */
  readonly batching?: Batching | undefined;
  readonly session?: SessionOptions | undefined;
  /**
   * `'shared'`: a model is compiled once for this machine, into the weight store, and all replicas map the same pages.
   * Models of less than a megabyte, in the ORT format or for other execution providers than `cpu` stay private. Default
   * `'private'`: each replica has a copy of its own.
   */
  readonly weights?: WeightPlacement | undefined;
  readonly weightStore?: WeightStoreOptions | undefined;
  /**
   * Milliseconds that `close()` lets accepted work go on, and that it and `destroy()` wait for threads that are in a native
   * call. Default 20000.
   */
  readonly gracefulShutdownTimeoutMs?: number | undefined;
  /** pino, or what looks like it. Default: silent. */
  readonly logger?: Pick<Logger, 'debug' | 'info' | 'warn' | 'error'> | undefined;
  /** Where the metrics are registered. Default: a registry of the engine's own, `engine.metrics`. */
  readonly registry?: Registry | undefined;
  readonly metrics?: {
    /** Label metrics with model ids. Switch it off with thousands of models. Default true. */
    readonly modelLabels?: boolean | undefined;
  };
}

/** Where compiled models are kept. */
export interface WeightStoreOptions {
  /** Default: `infermux/weights` in the user's folder for caches. May be shared by several processes. */
  readonly directory?: string | undefined;
  /** Most bytes in it; the least recently used leave. A compiled model has up to twice the bytes of its file. Default 8 GiB. */
  readonly maxBytes?: number | undefined;
}

type WithDefault = Exclude<keyof EngineOptions, 'logger' | 'registry' | 'repository' | 'weightStore'>;

export type ResolvedOptions = { readonly [K in WithDefault]-?: NonNullable<EngineOptions[K]> } & {
  readonly repository: ResolvedRepositoryOptions;
  readonly weightStore: { readonly [K in keyof WeightStoreOptions]-?: NonNullable<WeightStoreOptions[K]> };
} & Pick<EngineOptions, 'logger' | 'registry'>;

const MOST_STORE_BYTES = 8 * 2 ** 30;

/** More than any machine has cores for; a typo should not start ten thousand threads. */
export const MOST_REPLICAS = 1_024;

const ENGINE_RULES: Readonly<Record<keyof EngineOptions, Rule>> = {
  models: (value) =>
    typeof value === 'string' ? isText(value) : isObject(value) && 'a directory or an object of models by id',
  replicas: isInteger({ lowest: 1, highest: MOST_REPLICAS }),
  maxModelsPerReplica: isInteger({ lowest: 1, or: -1 }),
  maxModelBytesPerReplica: isInteger({ lowest: 1, or: -1 }),
  modelIdleTimeoutMs: isMilliseconds({ lowest: 1, or: -1 }),
  maxOngoingRequests: isInteger({ lowest: 1, or: -1 }),
  maxQueuedRequests: isInteger({ lowest: 0, or: -1 }),
  defaultTimeoutMs: isMilliseconds({ lowest: 0, or: -1 }),
  batching: () => undefined,
  session: isObject,
  repository: isObject,
  weights: isWeightPlacement,
  weightStore: isObject,
  gracefulShutdownTimeoutMs: isMilliseconds({ lowest: 0 }),
  logger: hasMethods('a logger', ['debug', 'info', 'warn', 'error']),
  registry: hasMethods('a prom-client Registry', [
    'registerMetric',
    'removeSingleMetric',
    'getMetricsAsArray',
    'metrics',
  ]),
  metrics: isObject,
};

const isBytes = satisfies((value) => value instanceof Uint8Array, 'a Uint8Array');

const MODEL_SOURCE_RULES: Readonly<Record<keyof ModelSource, Rule>> = {
  path: isText,
  bytes: isBytes,
  version: isInteger({ lowest: 1 }),
  batching: () => undefined,
  session: isObject,
  weights: isWeightPlacement,
  pinned: isBoolean,
};

const REPOSITORY_RULES: Readonly<Record<keyof RepositoryOptions, Rule>> = {
  lazy: isBoolean,
  loadOnStart: isBoolean,
  waitForInitialLoad: isBoolean,
  pollMs: isMilliseconds({ lowest: 0 }),
  settleMs: isMilliseconds({ lowest: 0 }),
  versions: isVersionPolicy,
};

const WEIGHT_STORE_RULES: Readonly<Record<keyof WeightStoreOptions, Rule>> = {
  directory: isText,
  maxBytes: isInteger({ lowest: 1 }),
};

/**
 * The options with all defaults, frozen.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming path, expectation and value; unknown keys are refused.
 */
export function resolveOptions(options: EngineOptions = {}): ResolvedOptions {
  checkOptions('options', options, ENGINE_RULES);
  checkOptions('options.metrics', options.metrics ?? {}, { modelLabels: isBoolean });
  checkModels(options.models);
  const repository = readRepository(options);
  const weightStore = checkOptions('options.weightStore', options.weightStore ?? {}, WEIGHT_STORE_RULES);
  const session = readSession('options.session', options.session ?? {});
  const batching = checkBatching('options.batching', options.batching === undefined ? 'auto' : options.batching);
  const { logger, registry, ...given } = withoutUndefined(options);
  return Object.freeze({
    models: {},
    replicas: availableParallelism(),
    maxModelsPerReplica: 3,
    maxModelBytesPerReplica: -1,
    modelIdleTimeoutMs: -1,
    maxOngoingRequests: -1,
    maxQueuedRequests: 4_096,
    defaultTimeoutMs: -1,
    gracefulShutdownTimeoutMs: 20_000,
    metrics: {},
    weights: 'private',
    ...given,
    batching,
    session,
    repository,
    weightStore: {
      directory: resolve(weightStore.directory ?? join(envPaths('infermux', { suffix: '' }).cache, 'weights')),
      maxBytes: weightStore.maxBytes ?? MOST_STORE_BYTES,
    },
    ...(logger === undefined ? {} : { logger }),
    ...(registry === undefined ? {} : { registry }),
  });
}

function checkModels(models: EngineOptions['models']): void {
  if (models === undefined || typeof models === 'string') return;
  for (const [id, source] of Object.entries(models)) {
    const where = `options.models[${show(id)}]`;
    if (source instanceof Uint8Array) continue;
    const expectation =
      typeof source === 'string' ? isText(source) : isObject(source) && 'a path, a Uint8Array, or { path or bytes, … }';
    if (expectation)
      throw new InfermuxError('INVALID_ARGUMENT', `${where} must be ${expectation}, got ${show(source)}`);
    if (typeof source !== 'string') checkSource(where, source);
  }
}

function checkSource(where: string, source: ModelSource): void {
  checkOptions(where, source, MODEL_SOURCE_RULES);
  if (source.batching !== undefined) checkBatching(`${where}.batching`, source.batching);
  if (source.session !== undefined) readSession(`${where}.session`, source.session);
  if ((source.path === undefined) === (source.bytes === undefined)) {
    throw new InfermuxError('INVALID_ARGUMENT', `${where} must have either a path or bytes`);
  }
}

function readRepository({ models, repository: given = {} }: EngineOptions): ResolvedRepositoryOptions {
  const repository = checkOptions('options.repository', given, REPOSITORY_RULES);
  if (typeof models !== 'string' && (repository.pollMs ?? 0) > 0) {
    const message = `options.repository.pollMs is ${repository.pollMs}, and options.models is no directory that could be followed`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  return {
    ...{ lazy: true, loadOnStart: false, waitForInitialLoad: true, pollMs: 0, settleMs: 50, versions: 'latest' },
    ...withoutUndefined(repository),
  };
}

function withoutUndefined<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}
