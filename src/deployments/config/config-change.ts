import { isDeepStrictEqual } from 'node:util';
import type { ResolvedDeploymentOptions } from './deployment-options.js';

/** What is to be done for a change of options. */
export interface ConfigChange {
  readonly isAny: boolean;
  /** Replicas are to be replaced. */
  readonly needsRoll: boolean;
  /** Handlers are to be told. */
  readonly needsReconfigure: boolean;
  /** Another number of replicas was named, or other bounds for it. */
  readonly needsScale: boolean;
}

type Key = keyof ResolvedDeploymentOptions;

/** Nothing of these is in a replica. */
const LIVE: ReadonlySet<Key> = new Set<Key>([
  ...(['maxOngoingRequests', 'maxQueuedRequests', 'defaultTimeoutMs', 'batching'] as const),
  ...(['gracefulShutdownTimeoutMs', 'healthCheck', 'rollingUpdate', 'router', 'order', 'routingStats'] as const),
]);
const SCALE: ReadonlySet<Key> = new Set<Key>(['replicas', 'autoscaling']);

/** Whether the option is the same in both; a router is the same only if it is that very object. */
export function isSameOption(key: Key, left: ResolvedDeploymentOptions, right: ResolvedDeploymentOptions): boolean {
  return key === 'router' ? left.router === right.router : isDeepStrictEqual(left[key], right[key]);
}

/** @param canReconfigure whether the handler takes another configuration while it runs. */
export function configChange(
  before: ResolvedDeploymentOptions,
  after: ResolvedDeploymentOptions,
  canReconfigure: boolean,
): ConfigChange {
  const changed = (Object.keys(after) as Key[]).filter((key) => !isSameOption(key, before, after));
  const inReplicas = changed.filter((key) => !LIVE.has(key) && !SCALE.has(key));
  const needsReconfigure = canReconfigure && inReplicas.includes('userConfig') && inReplicas.length === 1;
  return {
    isAny: changed.length > 0,
    needsRoll: inReplicas.length > 0 && !needsReconfigure,
    needsReconfigure,
    needsScale: changed.some((key) => SCALE.has(key)),
  };
}
