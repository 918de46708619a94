import { availableParallelism } from 'node:os';
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
import { InfermuxError, messageOf, show } from './errors.js';
import type { ModelSource } from './models/model-repository.js';

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
  /** A directory of models, which is read once, or models by id. Default: none. */
  readonly models?: string | Readonly<Record<string, string | ModelSource>> | undefined;
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

type WithDefault = Exclude<keyof EngineOptions, 'logger' | 'registry'>;

export type ResolvedOptions = { readonly [K in WithDefault]-?: NonNullable<EngineOptions[K]> } & Pick<
  EngineOptions,
  'logger' | 'registry'
>;

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

const MODEL_SOURCE_RULES: Readonly<Record<keyof ModelSource, Rule>> = {
  path: isText,
  version: isInteger({ lowest: 1 }),
  batching: () => undefined,
};

const LEVELS = ['disabled', 'basic', 'extended', 'layout', 'all'];

/** Keys that infermux knows the form of; the rest is onnxruntime-node's to judge. */
const SESSION_RULES: Readonly<Record<string, Rule>> = {
  executionProviders: satisfies(
    (value) => Array.isArray(value) && value.length > 0 && [...value].every(isProvider),
    'a non-empty array of names or { name, … }',
  ),
  intraOpNumThreads: isInteger({ lowest: 0 }),
  interOpNumThreads: isInteger({ lowest: 0 }),
  graphOptimizationLevel: satisfies((value) => LEVELS.includes(value as string), `one of ${LEVELS.join(', ')}`),
  extra: isObject,
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
  const session = readSession(options.session ?? {});
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
    ...given,
    batching,
    session,
    ...(logger === undefined ? {} : { logger }),
    ...(registry === undefined ? {} : { registry }),
  });
}

function checkModels(models: EngineOptions['models']): void {
  if (models === undefined || typeof models === 'string') return;
  for (const [id, source] of Object.entries(models)) {
    const where = `options.models[${show(id)}]`;
    const expectation =
      typeof source === 'string' ? isText(source) : isObject(source) && 'a path or { path, version? }';
    if (expectation)
      throw new InfermuxError('INVALID_ARGUMENT', `${where} must be ${expectation}, got ${show(source)}`);
    if (typeof source === 'string') continue;
    checkOptions(where, source, MODEL_SOURCE_RULES);
    if (source.batching !== undefined) checkBatching(`${where}.batching`, source.batching);
    if (source.path === undefined) throw new InfermuxError('INVALID_ARGUMENT', `${where}.path is missing`);
  }
}

/** A copy of our own: replicas that start later get the same. */
function readSession(session: SessionOptions): SessionOptions {
  const known = Object.fromEntries(Object.entries(session).filter(([key]) => Object.hasOwn(SESSION_RULES, key)));
  checkOptions('options.session', known, SESSION_RULES);
  try {
    // A cycle survives a clone and would end the process in onnxruntime-node; JSON finds it.
    JSON.stringify(session, (_key, value) => (ArrayBuffer.isView(value) ? undefined : value));
    return structuredClone(withoutUndefined(session));
  } catch (cause) {
    const message = `options.session must be plain data, since it goes to other threads: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
}

function isProvider(value: unknown): boolean {
  if (typeof value === 'string') return value !== '';
  return isObject(value) === undefined && isText((value as { name?: unknown }).name) === undefined;
}

function withoutUndefined<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}
