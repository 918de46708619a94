import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import {
  checkOptions,
  hasMethods,
  isInteger,
  isMilliseconds,
  isObject,
  isOneOf,
  type Rule,
  satisfies,
} from '../../common/checks.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { type Batching, checkBatching } from '../../contracts/batching.js';
import { EVICTIONS, type EvictionName } from '../../contracts/eviction.js';
import type { WeightPlacement } from '../../contracts/model-reference.js';
import {
  DEFAULT_ROUTER,
  ORDERS,
  type Order,
  type RequestRouter,
  ROUTER_NAMES,
  type RouterName,
} from '../../contracts/request-router.js';
import { checkDepth, providersOf, readSession, type SessionOptions } from '../../contracts/session-settings.js';
import { isWeightPlacement } from '../../models/sources/manifest.js';
import { type AutoscalingOptions, type ResolvedAutoscaling, readAutoscaling } from '../autoscaling/autoscaler.js';

/** Options of one deployment: a group of replicas that are alike. */
export interface DeploymentOptions {
  /**
   * Worker threads, each with its own sessions; about 10 MB each. 0: none, and requests are refused. Default: one for each
   * core this process may use; for a deployment beside the one named `default`, 1. With `autoscaling`: how many to begin with;
   * default `minReplicas`.
   */
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
   * Ids of devices over which the replicas are spread: `deviceId` of the execution providers other than `cpu`. Default: the
   * providers' own choice.
   */
  readonly devices?: readonly number[] | undefined;
  /**
   * `'shared'`: a model is compiled once for this machine, into the weight store, and all replicas map the same pages.
   * Models of less than a megabyte, in the ORT format or for other execution providers than `cpu` stay private. Default
   * `'private'`: each replica has a copy of its own.
   */
  readonly weights?: WeightPlacement | undefined;
  /**
   * Milliseconds that a replica that is to stop may go on with what it was given; then it is given up, and its requests go to
   * others. Of the deployment `default` also: milliseconds that `close()` lets accepted work go on, and that it and `destroy()`
   * wait for threads that are in a native call. Default 20000.
   */
  readonly gracefulShutdownTimeoutMs?: number | undefined;
  /**
   * A module that Node can import, by its path (from the working directory) or its `file:` URL, whose `handle` takes the requests in the replica instead of a model: any values that can
   * be cloned. It cannot be added or taken away later.
   */
  readonly handler?: string | URL | undefined;
  /** For the handler's `reconfigure`: what JSON can carry. */
  readonly userConfig?: unknown;
  /** Names and values that replicas are told apart by. A list is spread over them. */
  readonly labels?: Labels | readonly Labels[] | undefined;
  readonly healthCheck?: HealthCheckOptions | undefined;
  readonly rollingUpdate?: RollingUpdateOptions | undefined;
  /** How a replica is chosen for a request: a name, or a router of your own. Default `'power-of-two-choices'`. */
  readonly router?: RouterName | RequestRouter | undefined;
  /**
   * `'model'`: models take turns, so that none keeps another waiting for long. `'fifo'`: requests go strictly in their order of
   * arrival, whatever their model, by priority; all wait while the first has no replica. Default `'model'`.
   */
  readonly order?: Order | undefined;
  /**
   * Which session leaves a replica for a new one: the one that was not used for longest, or the one whose place is worth least,
   * by the requests for it, what its load takes, and its bytes. Default `'lru'`.
   */
  readonly eviction?: EvictionName | undefined;
  readonly routingStats?: RoutingStatsOptions | undefined;
  /** More or fewer replicas by the requests there are. Default: always so many as `replicas` says. */
  readonly autoscaling?: AutoscalingOptions | undefined;
}

export type Labels = Readonly<Record<string, string>>;

export interface HealthCheckOptions {
  /** Milliseconds from one check to the next. Default 10000. */
  readonly periodMs?: number | undefined;
  /**
   * Milliseconds that a replica may leave a check without an answer. A run that takes longer than all checks that may fail
   * together is taken for one that never ends; a load is not. Default 30000.
   */
  readonly timeoutMs?: number | undefined;
  /** So many failed checks in a row, and the replica is replaced. Default 3. */
  readonly failures?: number | undefined;
}

/** When handlers are asked for what `recordRoutingStats` tells. */
export interface RoutingStatsOptions {
  /** Milliseconds from one call to the next, give or take a tenth. Default 10000. */
  readonly periodMs?: number | undefined;
  /** Milliseconds after which a call that is not answered is given up. Default 30000. */
  readonly timeoutMs?: number | undefined;
}

export interface RollingUpdateOptions {
  /** Share of the replicas, from 0 to 1, that are replaced at a time; at least one. Default 0.2. */
  readonly fraction?: number | undefined;
}

type Plain = Exclude<keyof DeploymentOptions, 'devices' | 'handler' | 'userConfig' | 'labels' | 'autoscaling'>;

export type ResolvedDeploymentOptions = {
  readonly [K in Exclude<Plain, 'healthCheck' | 'rollingUpdate' | 'routingStats'>]-?: NonNullable<DeploymentOptions[K]>;
} & {
  readonly devices: readonly number[] | undefined;
  /** Its address. */
  readonly handler: string | undefined;
  readonly userConfig: unknown;
  readonly labels: readonly Labels[];
  readonly healthCheck: { readonly [K in keyof HealthCheckOptions]-?: number };
  readonly routingStats: { readonly [K in keyof RoutingStatsOptions]-?: number };
  readonly rollingUpdate: { readonly [K in keyof RollingUpdateOptions]-?: number };
  readonly autoscaling: ResolvedAutoscaling | undefined;
};

/** More than any machine has cores for; a typo should not start ten thousand threads. */
export const MAX_REPLICAS = 1_024;

const anything: Rule = () => undefined;

const areDevices = satisfies(
  (value) =>
    Array.isArray(value) &&
    value.length > 0 &&
    [...value].every((id) => Number.isSafeInteger(id) && (id as number) >= 0),
  'a non-empty list of device ids, integers of at least 0',
);

const areLabels = satisfies(
  (value) => isLabels(value) || (Array.isArray(value) && value.length > 0 && [...value].every(isLabels)),
  'an object of strings, or a non-empty list of such',
);

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
  gracefulShutdownTimeoutMs: isMilliseconds({ lowest: 0 }),
  handler: satisfies((value) => value instanceof URL || (typeof value === 'string' && value !== ''), 'a path or a URL'),
  userConfig: anything,
  labels: areLabels,
  router: (value) =>
    typeof value === 'string'
      ? isOneOf(ROUTER_NAMES)(value)
      : hasMethods('the name of a router, or one', ['chooseReplicas'])(value),
  order: isOneOf(ORDERS),
  eviction: isOneOf(EVICTIONS),
  routingStats: isObject,
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

const ROLLING_UPDATE_RULES: Readonly<Record<keyof RollingUpdateOptions, Rule>> = {
  fraction: satisfies((value) => typeof value === 'number' && value >= 0 && value <= 1, 'a number from 0 to 1'),
};

/**
 * The options with all defaults, frozen.
 *
 * @param where names them in messages.
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
  const rollingUpdate = checkOptions(`${where}.rollingUpdate`, options.rollingUpdate ?? {}, ROLLING_UPDATE_RULES);
  const autoscaling = options.autoscaling && readAutoscaling(`${where}.autoscaling`, options.autoscaling, MAX_REPLICAS);
  const { handler } = options;
  if (options.userConfig !== undefined && handler === undefined) {
    throw new InfermuxError(
      'INVALID_ARGUMENT',
      `${where}.userConfig is for a handler, and ${where}.handler names none`,
    );
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
    maxOngoingRequests: options.maxOngoingRequests ?? -1,
    maxQueuedRequests: options.maxQueuedRequests ?? 4_096,
    defaultTimeoutMs: options.defaultTimeoutMs ?? -1,
    batching: checkBatching(`${where}.batching`, options.batching === undefined ? 'auto' : options.batching),
    session,
    devices: options.devices && [...options.devices],
    weights: options.weights ?? 'private',
    gracefulShutdownTimeoutMs: options.gracefulShutdownTimeoutMs ?? 20_000,
    handler: handler === undefined ? undefined : addressOf(where, handler),
    userConfig: readUserConfig(where, options.userConfig),
    labels: [options.labels ?? {}].flat().map((labels) => ({ ...labels })),
    healthCheck: {
      periodMs: healthCheck.periodMs ?? 10_000,
      timeoutMs: healthCheck.timeoutMs ?? 30_000,
      failures: healthCheck.failures ?? 3,
    },
    router: options.router ?? DEFAULT_ROUTER,
    order: options.order ?? 'model',
    eviction: options.eviction ?? 'lru',
    routingStats: { periodMs: routingStats.periodMs ?? 10_000, timeoutMs: routingStats.timeoutMs ?? 30_000 },
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

function addressOf(where: string, handler: string | URL): string {
  const isAddress = handler instanceof URL || handler.startsWith('file:');
  if (!isAddress) return pathToFileURL(resolve(handler)).href;
  try {
    // Nothing but a file can be imported by a thread.
    fileURLToPath(handler);
    return String(handler);
  } catch (cause) {
    const message = `${where}.handler must be the path or the file: URL of a module, got ${show(String(handler))}`;
    throw new InfermuxError('INVALID_ARGUMENT', `${message}: ${messageOf(cause)}`, { cause });
  }
}

/** What JSON carries: it goes to other threads, and into a checkpoint. */
function readUserConfig(where: string, userConfig: unknown): unknown {
  if (userConfig === undefined) return undefined;
  let copy: unknown;
  try {
    checkDepth(userConfig);
    copy = JSON.parse(JSON.stringify(userConfig));
  } catch (cause) {
    const message = `${where}.userConfig must be what JSON can carry: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
  if (isDeepStrictEqual(copy, userConfig)) return copy;
  const message = `${where}.userConfig must be what JSON can carry, and comes out of it as ${JSON.stringify(copy)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

function isLabels(value: unknown): boolean {
  return isObject(value) === undefined && Object.values(value as object).every((label) => typeof label === 'string');
}
