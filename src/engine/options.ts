import { availableParallelism } from 'node:os';
import { join, resolve } from 'node:path';
import envPaths from 'env-paths';
import type { Registry } from 'prom-client';
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
} from '../common/checks.js';
import { InfermuxError, show } from '../common/errors.js';
import { checkBatching } from '../contracts/batching.js';
import type { EngineLogger } from '../contracts/logger.js';
import { readSession } from '../contracts/session-settings.js';
import { copyOptions } from '../deployments/checkpoint/saved-deployments.js';
import { checkDeploymentName, DEFAULT_DEPLOYMENT } from '../deployments/config/deployment-name.js';
import type { DeploymentOptions, ResolvedDeploymentOptions } from '../deployments/config/deployment-options.js';
import { DEPLOYMENT_RULES, resolveDeployment } from '../deployments/config/resolve-deployment.js';
import type { RepositoryOptions, ResolvedRepositoryOptions } from '../models/model-manager-options.js';
import { isVersionPolicy, isWeightPlacement } from '../models/sources/manifest.js';
import type { ModelSource } from '../models/sources/model-sources.js';

/** Options of the engine. The options of a deployment among them are those of the deployment named `default`. */
export interface EngineOptions extends DeploymentOptions {
  /** A directory of models, or models by id: the path or the bytes of each. Default: none. */
  readonly models?: string | Readonly<Record<string, string | Uint8Array | ModelSource>> | undefined;
  /** How the directory is followed, and when models are loaded. */
  readonly repository?: RepositoryOptions | undefined;
  /** More deployments, by name. Default: none. */
  readonly deployments?: Readonly<Record<string, DeploymentOptions>> | undefined;
  /**
   * A file that records the wanted deployments, endpoints, models and pins, so that the next engine continues where
   * this one stopped. Default: none.
   */
  readonly checkpoint?: CheckpointOptions | undefined;
  /** Where compiled models with shared weights are kept, and how many bytes of them. */
  readonly weightStore?: WeightStoreOptions | undefined;
  /** A pino logger, `console`, or another object with these four methods. Default: nobody logs. */
  readonly logger?: EngineLogger | undefined;
  /** Where the metrics are registered. Default: a registry of the engine's own, `engine.metrics`. */
  readonly registry?: Registry | undefined;
  /** Which series the metrics have. */
  readonly metrics?: MetricsOptions | undefined;
}

export interface MetricsOptions {
  /** Whether metrics are labelled with model ids. Default true. */
  readonly modelLabels?: boolean | undefined;
  /**
   * Most models with series of their own: the busiest ones. The others share series with the label `(other)`, and so do
   * models that are gone. Default 200.
   */
  readonly maxModels?: number | undefined;
}

export interface CheckpointOptions {
  /** Path of the file. Only one engine may use it at a time. */
  readonly file: string;
}

/** Where compiled models with shared weights are kept. */
export interface WeightStoreOptions {
  /** Path of the directory. Several processes may share it. Default: `infermux/weights` in the user's cache folder. */
  readonly directory?: string | undefined;
  /** Most bytes in it; the least recently used leave. A compiled model takes up to twice its file. Default 8 GiB. */
  readonly maxBytes?: number | undefined;
}

export interface ResolvedOptions {
  readonly models: NonNullable<EngineOptions['models']>;
  /** Whether the options named `models`; otherwise a checkpoint may name them. */
  readonly isModelsGiven: boolean;
  readonly repository: ResolvedRepositoryOptions;
  /** Options of each deployment as the caller gave them, `default` included. */
  readonly declared: Readonly<Record<string, DeploymentOptions>>;
  /** The same with all defaults. */
  readonly deployments: Readonly<Record<string, ResolvedDeploymentOptions>> & {
    readonly [DEFAULT_DEPLOYMENT]: ResolvedDeploymentOptions;
  };
  readonly checkpoint: CheckpointOptions | undefined;
  readonly weightStore: { readonly [K in keyof WeightStoreOptions]-?: NonNullable<WeightStoreOptions[K]> };
  readonly logger: EngineOptions['logger'];
  readonly registry: EngineOptions['registry'];
  readonly metrics: { readonly [K in keyof MetricsOptions]-?: NonNullable<MetricsOptions[K]> };
}

const MOST_STORE_BYTES = 8 * 2 ** 30;
const MOST_MODELS_WITH_SERIES = 200;

type OwnKey = Exclude<keyof EngineOptions, keyof DeploymentOptions>;

const ENGINE_RULES: Readonly<Record<OwnKey, Rule>> = {
  models: (value) =>
    typeof value === 'string' ? isText(value) : isObject(value) && 'a directory or an object of models by id',
  repository: isObject,
  deployments: isObject,
  checkpoint: isObject,
  weightStore: isObject,
  logger: hasMethods('a logger', ['debug', 'info', 'warn', 'error']),
  registry: hasMethods('a prom-client Registry', [
    'registerMetric',
    'removeSingleMetric',
    'getMetricsAsArray',
    'metrics',
  ]),
  metrics: isObject,
};

/** Names of the options of the engine and of its default deployment. */
export const OPTION_NAMES: readonly string[] = Object.keys({ ...ENGINE_RULES, ...DEPLOYMENT_RULES });

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

const METRICS_RULES: Readonly<Record<keyof MetricsOptions, Rule>> = {
  modelLabels: isBoolean,
  maxModels: isInteger({ lowest: 1 }),
};

const WEIGHT_STORE_RULES: Readonly<Record<keyof WeightStoreOptions, Rule>> = {
  directory: isText,
  maxBytes: isInteger({ lowest: 1 }),
};

/**
 * Returns the options with all defaults, frozen.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming path, expectation and value; unknown keys are refused.
 */
export function resolveOptions(options: EngineOptions = {}): ResolvedOptions {
  const given = withoutUndefined(checkOptions('options', options, { ...ENGINE_RULES, ...DEPLOYMENT_RULES }));
  const metrics = checkOptions('options.metrics', given.metrics ?? {}, METRICS_RULES);
  checkModels(given.models);
  const repository = readRepository(given);
  const weightStore = checkOptions('options.weightStore', given.weightStore ?? {}, WEIGHT_STORE_RULES);
  const { models = {}, repository: _, deployments: others = {}, checkpoint, logger, registry, ...rest } = given;
  const { weightStore: __, metrics: ___, ...own } = rest;
  return Object.freeze({
    models,
    isModelsGiven: given.models !== undefined,
    repository,
    declared: { [DEFAULT_DEPLOYMENT]: own, ...others },
    deployments: {
      [DEFAULT_DEPLOYMENT]: resolveDeployment('options', own, defaultReplicas(DEFAULT_DEPLOYMENT)),
      ...readDeployments(others),
    },
    checkpoint: checkpoint && readCheckpoint(checkpoint),
    weightStore: {
      directory: resolve(weightStore.directory ?? join(envPaths('infermux', { suffix: '' }).cache, 'weights')),
      maxBytes: weightStore.maxBytes ?? MOST_STORE_BYTES,
    },
    logger,
    registry,
    metrics: { modelLabels: true, maxModels: MOST_MODELS_WITH_SERIES, ...withoutUndefined(metrics) },
  });
}

/** Returns the number of replicas of a deployment that does not name one. */
export function defaultReplicas(name: string): number {
  return name === DEFAULT_DEPLOYMENT ? availableParallelism() : 1;
}

function readDeployments(
  others: Readonly<Record<string, DeploymentOptions>>,
): Record<string, ResolvedDeploymentOptions> {
  const resolved = new Map<string, ResolvedDeploymentOptions>();
  for (const [name, options] of Object.entries(others)) {
    checkDeploymentName(name);
    if (name === DEFAULT_DEPLOYMENT) {
      const message = `options.deployments must not name ${show(name)}: its options are the engine's own`;
      throw new InfermuxError('INVALID_ARGUMENT', message);
    }
    const where = `options.deployments[${show(name)}]`;
    resolved.set(name, resolveDeployment(where, copyOptions(where, options), defaultReplicas(name)));
  }
  return Object.fromEntries(resolved);
}

function readCheckpoint(given: CheckpointOptions): CheckpointOptions {
  const { file } = checkOptions('options.checkpoint', given, { file: isText });
  if (file === undefined) throw new InfermuxError('INVALID_ARGUMENT', 'options.checkpoint.file must be named');
  return { file: resolve(file) };
}

/** @throws InfermuxError `INVALID_ARGUMENT` naming path, expectation and value. */
export function checkModels(models: EngineOptions['models']): void {
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

/** @throws InfermuxError `INVALID_ARGUMENT` when `pollMs` asks to follow a directory and `models` is not one. */
export function checkFollowable(models: EngineOptions['models'], { pollMs = 0 }: RepositoryOptions): void {
  if (typeof models === 'string' || pollMs === 0) return;
  throw new InfermuxError(
    'INVALID_ARGUMENT',
    `options.repository.pollMs is ${pollMs}, but options.models is not a directory: name one, or set pollMs to 0`,
  );
}

function readRepository({ models, checkpoint, repository: given = {} }: EngineOptions): ResolvedRepositoryOptions {
  const repository = checkOptions('options.repository', given, REPOSITORY_RULES);
  // A checkpoint may name the directory.
  if (models !== undefined || checkpoint === undefined) checkFollowable(models, repository);
  return {
    ...{ lazy: true, loadOnStart: false, waitForInitialLoad: true, pollMs: 0, settleMs: 50, versions: 'latest' },
    ...withoutUndefined(repository),
  };
}

function withoutUndefined<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}
