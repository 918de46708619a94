import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import envPaths from 'env-paths';
import {
  checkOptions,
  forLists,
  hasMethods,
  isBoolean,
  isInteger,
  isMilliseconds,
  isObject,
  isOneOf,
  type Rule,
} from '../common/checks.js';
import { InfermuxError, show } from '../common/errors.js';
import { absolutePath, isPath } from '../common/files/paths.js';
import { isUrl } from '../common/values/realm.js';
import { copyOptions } from '../deployments/checkpoint/saved-deployments.js';
import { checkDeploymentName, DEFAULT_DEPLOYMENT } from '../deployments/config/deployment-name.js';
import type { DeploymentOptions, ResolvedDeploymentOptions } from '../deployments/config/deployment-options.js';
import { DEPLOYMENT_RULES, resolveDeployment } from '../deployments/config/resolve-deployment.js';
import type { ModelCacheOptions } from '../models/cache/model-cache.js';
import { checkFinder, isFinder, type ModelFinder, type ResolvedFinder } from '../models/finder/finder.js';
import type { RepositoryOptions, ResolvedRepositoryOptions } from '../models/model-manager-options.js';
import { isVersionPolicy } from '../models/sources/manifest.js';
import { type CheckedSource, checkSources } from '../models/sources/model-sources.js';
import {
  type CheckpointOptions,
  type EngineOptions,
  type MetricsOptions,
  type ModelCacheSettings,
  OVERCOMMITS,
  type Overcommit,
  type WeightStoreOptions,
} from './engine-options.js';

/** The absolute path of a directory of models, or the sources of models by id. */
export type ResolvedModels = string | Readonly<Record<string, CheckedSource>>;

export interface ResolvedOptions {
  readonly models: ResolvedModels;
  readonly finder: ResolvedFinder | undefined;
  readonly modelCache: ModelCacheOptions;
  /** Whether the options named `models`; otherwise a checkpoint may name them. */
  readonly isModelsGiven: boolean;
  readonly repository: ResolvedRepositoryOptions;
  /** Options of each deployment as the caller gave them, `default` included. */
  readonly declared: Readonly<Record<string, DeploymentOptions>>;
  /** The same with all defaults. */
  readonly deployments: Readonly<Record<string, ResolvedDeploymentOptions>> & {
    readonly [DEFAULT_DEPLOYMENT]: ResolvedDeploymentOptions;
  };
  /** With absolute paths, as the weight store. */
  readonly checkpoint: { readonly file: string } | undefined;
  readonly weightStore: { readonly directory: string; readonly maxBytes: number };
  readonly overcommit: Overcommit;
  readonly logger: EngineOptions['logger'];
  readonly registry: EngineOptions['registry'];
  readonly metrics: { readonly [K in keyof MetricsOptions]-?: NonNullable<MetricsOptions[K]> };
}

const MOST_STORE_BYTES = 8 * 2 ** 30;
const MOST_CACHE_BYTES = 16 * 2 ** 30;
const MOST_MODELS_WITH_SERIES = 200;
const MOST_BUCKETS = 64;
/** 0.1 ms to 10 minutes, in seconds: a load may take as long. */
const BUCKETS = [
  ...[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  ...[30, 60, 120, 300, 600],
];

const areBuckets = forLists(
  (value) =>
    Array.isArray(value) &&
    value.length > 0 &&
    value.length <= MOST_BUCKETS &&
    value.every((bound, index) => Number.isFinite(bound) && bound > (index === 0 ? 0 : value[index - 1])),
  `a list of 1 to ${MOST_BUCKETS} numbers above 0, in ascending order`,
);

type OwnKey = Exclude<keyof EngineOptions, keyof DeploymentOptions>;

const ENGINE_RULES: Readonly<Record<OwnKey, Rule>> = {
  models: (value) =>
    typeof value === 'string' || isUrl(value)
      ? isPath(value)
      : isObject(value) && 'a directory, an object of models by id or a finder',
  finder: hasMethods('a finder', ['find']),
  modelCache: isObject,
  maxModelBytes: isInteger({ lowest: 1, or: -1 }),
  repository: isObject,
  deployments: isObject,
  checkpoint: isObject,
  weightStore: isObject,
  overcommit: isOneOf(OVERCOMMITS),
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

const REPOSITORY_RULES: Readonly<Record<keyof RepositoryOptions, Rule>> = {
  lazy: isBoolean,
  loadOnStart: isBoolean,
  waitForInitialLoad: isBoolean,
  pollMs: isMilliseconds({ lowest: 0 }),
  settleMs: isMilliseconds({ lowest: 0 }),
  pinned: isBoolean,
  retries: isInteger({ lowest: 0 }),
  versions: isVersionPolicy,
};

const METRICS_RULES: Readonly<Record<keyof MetricsOptions, Rule>> = {
  modelLabels: isBoolean,
  buckets: areBuckets,
  maxModels: isInteger({ lowest: 1 }),
  triton: isBoolean,
};

/** Names of the options of `metrics`. */
export const METRICS_OPTION_NAMES: readonly string[] = Object.keys(METRICS_RULES);

const STORE_RULES: Readonly<Record<keyof WeightStoreOptions & keyof ModelCacheSettings, Rule>> = {
  directory: isPath,
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
  const { models: where, finder } = splitFinder(given);
  const models = where === undefined ? undefined : resolveModels(where);
  const repository = readRepository(given.repository ?? {});
  // A checkpoint may name the directory.
  if (models !== undefined || given.checkpoint === undefined) checkFollowable(models, repository);
  const weightStore = checkOptions('options.weightStore', given.weightStore ?? {}, STORE_RULES);
  const modelCache = checkOptions('options.modelCache', given.modelCache ?? {}, STORE_RULES);
  const { models: _, repository: __, deployments: others = {}, checkpoint, logger, registry, ...rest } = given;
  const {
    weightStore: ___,
    metrics: ____,
    finder: _____,
    modelCache: ______,
    maxModelBytes = -1,
    overcommit = 'warn',
    ...ofDefault
  } = rest;
  // Copies, so that nothing of the caller's is read again when the deployments start.
  const own = copyOptions('options', ofDefault);
  const named = copyDeployments(others);
  return Object.freeze({
    models: models ?? {},
    isModelsGiven: given.models !== undefined,
    finder,
    modelCache: {
      directory: absolutePath('options.modelCache.directory', modelCache.directory ?? defaultStore('models')),
      maxBytes: modelCache.maxBytes ?? MOST_CACHE_BYTES,
      maxModelBytes: maxModelBytes === -1 ? Number.POSITIVE_INFINITY : maxModelBytes,
    },
    repository,
    declared: { [DEFAULT_DEPLOYMENT]: own, ...named },
    deployments: {
      [DEFAULT_DEPLOYMENT]: resolveDeployment('options', own, defaultReplicas(DEFAULT_DEPLOYMENT)),
      ...resolveDeployments(named),
    },
    checkpoint: checkpoint && readCheckpoint(checkpoint),
    weightStore: {
      directory: absolutePath('options.weightStore.directory', weightStore.directory ?? defaultStore('weights')),
      maxBytes: weightStore.maxBytes ?? MOST_STORE_BYTES,
    },
    overcommit,
    logger,
    registry,
    metrics: {
      modelLabels: true,
      maxModels: MOST_MODELS_WITH_SERIES,
      buckets: BUCKETS,
      triton: false,
      ...withoutUndefined(metrics),
    },
  });
}

function defaultStore(name: string): string {
  return join(envPaths('infermux', { suffix: '' }).cache, name);
}

/** The finder may be in the place of the models, or beside them. */
function splitFinder({ models, finder }: EngineOptions) {
  if (!isFinder(models)) return { models, finder: finder && checkFinder('options.finder', finder) };
  if (finder === undefined) return { models: undefined, finder: checkFinder('options.models', models) };
  throw new InfermuxError('INVALID_ARGUMENT', 'options.models is a finder, and options.finder another: name one');
}

/** Returns the number of replicas of a deployment that does not name one. */
export function defaultReplicas(name: string): number {
  return name === DEFAULT_DEPLOYMENT ? availableParallelism() : 1;
}

function copyDeployments(others: Readonly<Record<string, DeploymentOptions>>): Record<string, DeploymentOptions> {
  const copies = new Map<string, DeploymentOptions>();
  for (const [name, options] of Object.entries(others)) {
    checkDeploymentName(name);
    if (name === DEFAULT_DEPLOYMENT) {
      const message = `options.deployments must not name ${show(name)}: its options are the engine's own`;
      throw new InfermuxError('INVALID_ARGUMENT', message);
    }
    copies.set(name, copyOptions(whereOf(name), options));
  }
  return Object.fromEntries(copies);
}

function resolveDeployments(
  named: Readonly<Record<string, DeploymentOptions>>,
): Record<string, ResolvedDeploymentOptions> {
  const resolved = Object.entries(named).map(
    ([name, options]) => [name, resolveDeployment(whereOf(name), options, defaultReplicas(name))] as const,
  );
  return Object.fromEntries(resolved);
}

function whereOf(deployment: string): string {
  return `options.deployments[${show(deployment)}]`;
}

function readCheckpoint(given: CheckpointOptions): ResolvedOptions['checkpoint'] {
  const { file } = checkOptions('options.checkpoint', given, { file: isPath });
  if (file === undefined) throw new InfermuxError('INVALID_ARGUMENT', 'options.checkpoint.file must be named');
  return { file: absolutePath('options.checkpoint.file', file) };
}

/** @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value. */
export function resolveModels(models: Exclude<EngineOptions['models'], ModelFinder | undefined>): ResolvedModels {
  const where = 'options.models';
  return typeof models === 'string' || isUrl(models) ? absolutePath(where, models) : checkSources(where, models);
}

/** @throws InfermuxError `INVALID_ARGUMENT` when `pollMs` asks to follow a directory and `models` is not one. */
export function checkFollowable(models: ResolvedModels | undefined, { pollMs = 0 }: RepositoryOptions): void {
  if (typeof models === 'string' || pollMs === 0) return;
  throw new InfermuxError(
    'INVALID_ARGUMENT',
    `options.repository.pollMs is ${pollMs}, but options.models is not a directory: name one, or set pollMs to 0`,
  );
}

function readRepository(given: RepositoryOptions): ResolvedRepositoryOptions {
  const repository = checkOptions('options.repository', given, REPOSITORY_RULES);
  return {
    ...{ lazy: true, loadOnStart: false, waitForInitialLoad: true, pollMs: 0, settleMs: 50, pinned: true },
    retries: 0,
    versions: 'latest',
    ...withoutUndefined(repository),
  };
}

function withoutUndefined<T extends object>(options: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}
