import {
  checkOptions,
  forLists,
  isInteger,
  isListOf,
  isMilliseconds,
  isObject,
  isOneOf,
  type Rule,
  satisfies,
} from '../../common/checks.js';
import { InfermuxError } from '../../common/errors.js';
import { isPath, moduleUrl } from '../../common/files/paths.js';
import { checkBatching } from '../../contracts/batching.js';
import { EVICTIONS } from '../../contracts/eviction.js';
import { DEFAULT_ROUTER, ORDERS } from '../../contracts/request-router.js';
import { providersOf, readSession } from '../../contracts/session-settings.js';
import { isWeightPlacement } from '../../models/sources/manifest.js';
import { type ResolvedAutoscaling, readAutoscaling } from '../autoscaling/autoscaler.js';
import type {
  DeploymentOptions,
  HandlerTimeoutOptions,
  HealthCheckOptions,
  ResolvedDeploymentOptions,
  ResourceOptions,
  RollingUpdateOptions,
  RoutingStatsOptions,
} from './deployment-options.js';
import { isIsolation, resolveIsolation } from './isolation.js';
import { isRouter, resolveRouter } from './router-module.js';
import { readUserConfig } from './user-config.js';

/**
 * Most replicas of one deployment: more than any machine has cores for, so that a typo starts no ten thousand threads.
 */
export const MAX_REPLICAS = 1_024;

const anything: Rule = () => undefined;

const areDevices = isListOf(
  (id) => Number.isSafeInteger(id) && (id as number) >= 0,
  'a non-empty list of device ids, integers of at least 0',
);

const areLabels = forLists(
  (value) => isLabels(value) || (Array.isArray(value) && value.length > 0 && value.every(isLabels)),
  'an object of strings, or a non-empty list of such objects',
);

/** The rule of each option by itself; {@link resolveDeployment} checks them together. */
export const DEPLOYMENT_RULES: Readonly<Record<keyof DeploymentOptions, Rule>> = {
  replicas: isInteger({ lowest: 0, highest: MAX_REPLICAS }),
  maxModelsPerReplica: isInteger({ lowest: 1, or: -1 }),
  maxModelBytesPerReplica: isInteger({ lowest: 1, or: -1 }),
  modelIdleTimeoutMs: isMilliseconds({ lowest: 1, or: -1 }),
  maxOngoingRequests: isInteger({ lowest: 1, or: -1 }),
  maxQueuedRequests: isInteger({ lowest: 0, or: -1 }),
  defaultTimeoutMs: isMilliseconds({ lowest: 0, or: -1 }),
  batching: anything,
  session: isObject,
  devices: areDevices,
  weights: isWeightPlacement,
  loadTimeoutMs: isMilliseconds({ lowest: 1, or: -1 }),
  gracefulShutdownTimeoutMs: isMilliseconds({ lowest: 0 }),
  handler: isPath,
  userConfig: anything,
  handlerTimeouts: isObject,
  resources: isObject,
  labels: areLabels,
  router: isRouter,
  order: isOneOf(ORDERS),
  eviction: isOneOf(EVICTIONS),
  routingStats: isObject,
  isolation: isIsolation,
  express: satisfies((value) => value === 'auto' || value === false, '"auto" or false'),
  healthCheck: isObject,
  rollingUpdate: isObject,
  autoscaling: isObject,
};

const HEALTH_CHECK_RULES: Readonly<Record<keyof HealthCheckOptions, Rule>> = {
  periodMs: isMilliseconds({ lowest: 1 }),
  timeoutMs: isMilliseconds({ lowest: 1 }),
  failures: isInteger({ lowest: 1 }),
};

const ROUTING_STATS_RULES: Readonly<Record<keyof RoutingStatsOptions, Rule>> = {
  periodMs: isMilliseconds({ lowest: 1 }),
  timeoutMs: isMilliseconds({ lowest: 1 }),
};

const HANDLER_TIMEOUT_RULES: Readonly<Record<keyof HandlerTimeoutOptions, Rule>> = {
  loadModelMs: isMilliseconds({ lowest: 1, or: -1 }),
  disposeMs: isMilliseconds({ lowest: 1, or: -1 }),
  reconfigureMs: isMilliseconds({ lowest: 1, or: -1 }),
};

const isAmount = satisfies((value) => Number.isFinite(value) && (value as number) > 0, 'a number above 0');

const RESOURCE_RULES: Readonly<Record<keyof ResourceOptions, Rule>> = {
  memoryBytes: isInteger({ lowest: 1 }),
  cores: isAmount,
  devices: isAmount,
};

const ROLLING_UPDATE_RULES: Readonly<Record<keyof RollingUpdateOptions, Rule>> = {
  fraction: satisfies((value) => typeof value === 'number' && value >= 0 && value <= 1, 'a number from 0 to 1'),
};

/**
 * Checks the options and fills in the defaults.
 *
 * @param where names the options in messages.
 * @returns the options, frozen.
 * @throws InfermuxError `INVALID_ARGUMENT` naming path, expectation and value; unknown keys are refused.
 */
export function resolveDeployment(
  where: string,
  given: DeploymentOptions,
  defaultReplicas = 1,
): ResolvedDeploymentOptions {
  const options = checkOptions(where, given, DEPLOYMENT_RULES);
  const session = readSession(`${where}.session`, options.session ?? {});
  const healthCheck = checkOptions(`${where}.healthCheck`, options.healthCheck ?? {}, HEALTH_CHECK_RULES);
  const routingStats = checkOptions(`${where}.routingStats`, options.routingStats ?? {}, ROUTING_STATS_RULES);
  const { memoryBytes, cores, devices } = checkOptions(`${where}.resources`, options.resources ?? {}, RESOURCE_RULES);
  const timeouts = checkOptions(`${where}.handlerTimeouts`, options.handlerTimeouts ?? {}, HANDLER_TIMEOUT_RULES);
  const rollingUpdate = checkOptions(`${where}.rollingUpdate`, options.rollingUpdate ?? {}, ROLLING_UPDATE_RULES);
  const autoscaling = options.autoscaling && readAutoscaling(`${where}.autoscaling`, options.autoscaling, MAX_REPLICAS);
  const { handler } = options;
  for (const option of ['userConfig', 'handlerTimeouts'] as const) {
    if (options[option] === undefined || handler !== undefined) continue;
    const message = `${where}.${option} is for a handler, and ${where}.handler names none`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  if (options.devices !== undefined && providersOf(session).every((name) => name === 'cpu')) {
    const message = `${where}.devices are for execution providers other than 'cpu', and ${where}.session names none`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  return Object.freeze({
    replicas: readReplicas(where, options.replicas, autoscaling, defaultReplicas),
    maxModelsPerReplica: options.maxModelsPerReplica ?? 3,
    maxModelBytesPerReplica: options.maxModelBytesPerReplica ?? -1,
    modelIdleTimeoutMs: options.modelIdleTimeoutMs ?? -1,
    maxOngoingRequests: options.maxOngoingRequests,
    maxQueuedRequests: options.maxQueuedRequests ?? 4_096,
    defaultTimeoutMs: options.defaultTimeoutMs ?? -1,
    batching: checkBatching(`${where}.batching`, options.batching === undefined ? 'auto' : options.batching),
    session,
    devices: options.devices,
    weights: options.weights ?? 'auto',
    loadTimeoutMs: options.loadTimeoutMs,
    gracefulShutdownTimeoutMs: options.gracefulShutdownTimeoutMs ?? 20_000,
    handler: handler === undefined ? undefined : moduleUrl(`${where}.handler`, handler),
    userConfig: readUserConfig(`${where}.userConfig`, options.userConfig),
    resources: { memoryBytes, cores, devices },
    handlerTimeouts: {
      loadModelMs: timeouts.loadModelMs ?? 60_000,
      disposeMs: timeouts.disposeMs ?? 10_000,
      reconfigureMs: timeouts.reconfigureMs ?? 60_000,
    },
    labels: [options.labels ?? {}].flat().map((labels) => ({ ...labels })),
    healthCheck: {
      periodMs: healthCheck.periodMs ?? 10_000,
      timeoutMs: healthCheck.timeoutMs ?? 30_000,
      failures: healthCheck.failures ?? 3,
    },
    router: resolveRouter(`${where}.router`, options.router ?? DEFAULT_ROUTER),
    order: options.order ?? 'model',
    eviction: options.eviction ?? 'lru',
    routingStats: { periodMs: routingStats.periodMs ?? 10_000, timeoutMs: routingStats.timeoutMs ?? 30_000 },
    express: options.express ?? 'auto',
    isolation: resolveIsolation(`${where}.isolation`, options.isolation),
    rollingUpdate: { fraction: rollingUpdate.fraction ?? 0.2 },
    autoscaling,
  });
}

function readReplicas(
  where: string,
  replicas: number | undefined,
  autoscaling: ResolvedAutoscaling | undefined,
  defaultReplicas: number,
): number {
  if (autoscaling === undefined) return replicas ?? defaultReplicas;
  const { minReplicas, maxReplicas } = autoscaling;
  if (replicas === undefined) return minReplicas;
  if (replicas >= minReplicas && replicas <= maxReplicas) return replicas;
  const message = `${where}.replicas is where autoscaling begins, and must be from ${minReplicas} to ${maxReplicas}, got ${replicas}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

function isLabels(value: unknown): boolean {
  return isObject(value) === undefined && Object.values(value as object).every((label) => typeof label === 'string');
}
