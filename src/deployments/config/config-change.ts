import { InfermuxError, show } from '../../common/errors.js';
import { isSameData } from '../../common/values/realm.js';
import type { ResolvedDeploymentOptions } from './deployment-options.js';
import { isSameRouter } from './router-module.js';

/** What a change of options requires. */
export interface ConfigChange {
  readonly isAny: boolean;
  /** Replicas must be replaced. */
  readonly needsRoll: boolean;
  /** Handlers must be given another configuration. */
  readonly needsReconfigure: boolean;
  /** The number of replicas, or its bounds, changed. */
  readonly needsScale: boolean;
}

type Key = keyof ResolvedDeploymentOptions;

/** Options that replicas do not know. */
const LIVE: ReadonlySet<Key> = new Set<Key>([
  ...(['maxOngoingRequests', 'maxQueuedRequests', 'defaultTimeoutMs', 'batching'] as const),
  ...([
    'gracefulShutdownTimeoutMs',
    'loadTimeoutMs',
    'healthCheck',
    'rollingUpdate',
    'router',
    'order',
    'routingStats',
    'express',
    'resources',
  ] as const),
]);
const SCALE: ReadonlySet<Key> = new Set<Key>(['replicas', 'autoscaling']);

function isSameOption(key: Key, left: ResolvedDeploymentOptions, right: ResolvedDeploymentOptions): boolean {
  return key === 'router' ? isSameRouter(left.router, right.router) : isSameData(left[key], right[key]);
}

/** Returns the names of the options that differ. */
export function changedOptions(before: ResolvedDeploymentOptions, after: ResolvedDeploymentOptions): Key[] {
  return (Object.keys(after) as Key[]).filter((key) => !isSameOption(key, before, after));
}

/** @throws InfermuxError `FAILED_PRECONDITION` for a change between models and a handler. */
export function checkHandlerStays(
  name: string,
  before: ResolvedDeploymentOptions,
  after: ResolvedDeploymentOptions,
): void {
  if ((after.handler === undefined) === (before.handler === undefined)) return;
  const message = `deployment ${show(name)}: a handler cannot be added or removed, since it takes requests of another kind; delete the deployment and create another`;
  throw new InfermuxError('FAILED_PRECONDITION', message);
}

/** Replicas that a deployment of `from` replicas has after a change, as far as autoscaling does not decide it later. */
export function targetOf(from: number, { autoscaling, replicas }: ResolvedDeploymentOptions): number {
  return autoscaling === undefined ? replicas : Math.max(from, replicas);
}

/**
 * Returns what the change from `before` to `after` requires.
 *
 * @param canReconfigure whether the handlers take another configuration while they run.
 */
export function configChange(
  before: ResolvedDeploymentOptions,
  after: ResolvedDeploymentOptions,
  canReconfigure: boolean,
): ConfigChange {
  const changed = changedOptions(before, after);
  const inReplicas = changed.filter((key) => !LIVE.has(key) && !SCALE.has(key));
  const needsReconfigure = canReconfigure && inReplicas.includes('userConfig') && inReplicas.length === 1;
  return {
    isAny: changed.length > 0,
    needsRoll: inReplicas.length > 0 && !needsReconfigure,
    needsReconfigure,
    needsScale: changed.some((key) => SCALE.has(key)),
  };
}
