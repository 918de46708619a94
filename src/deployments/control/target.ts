import { isSameData } from '../../common/values/realm.js';
import type { ConfigChange } from '../config/config-change.js';
import type { ResolvedDeploymentOptions } from '../config/deployment-options.js';

/** The desired state of a deployment's replicas. */
export interface Target {
  /** How many replicas should run. */
  readonly replicas: number;
  /** Names the settings that replicas are started with. */
  readonly revision: number;
  /** Names the user's configuration that handlers should have, where it can change while they run. */
  readonly configRevision: number;
  /** Share of the replicas, from 0 to 1, that a rolling update replaces at a time; at least one replica. */
  readonly fraction: number;
}

/** Returns the target of a new deployment. */
export function firstTarget({ replicas, rollingUpdate }: ResolvedDeploymentOptions): Target {
  return { replicas, revision: 1, configRevision: 1, fraction: rollingUpdate.fraction };
}

/**
 * Returns the target after a change of options.
 *
 * @param change the difference between the two options.
 */
export function nextTarget(
  target: Target,
  change: ConfigChange,
  before: ResolvedDeploymentOptions,
  after: ResolvedDeploymentOptions,
): Target {
  return {
    replicas: change.needsScale ? replicasAfter(before, after, target.replicas) : target.replicas,
    revision: target.revision + (change.needsRoll ? 1 : 0),
    configRevision: target.configRevision + (change.needsReconfigure ? 1 : 0),
    fraction: after.rollingUpdate.fraction,
  };
}

/** A number that the change names is taken; other bounds of autoscaling keep the current number, within them. */
function replicasAfter(before: ResolvedDeploymentOptions, after: ResolvedDeploymentOptions, current: number): number {
  const { autoscaling, replicas } = after;
  if (autoscaling === undefined) return replicas;
  const isNamed = before.replicas !== replicas && isSameData(before.autoscaling, autoscaling);
  return isNamed ? replicas : Math.min(autoscaling.maxReplicas, Math.max(autoscaling.minReplicas, current));
}
