import { DEFAULT_DEPLOYMENT } from '../../deployments/config/deployment-name.js';
import type { Deployments } from '../../deployments/deployments.js';
import type { ModelReplicas } from '../../models/model-replicas.js';
import type { Replica } from '../../replicas/replica.js';
import type { Dispatcher } from '../../routing/dispatcher.js';
import type { EngineDeployment } from '../requests/targets.js';

/** Returns all replicas that may have sessions: those that run, and the express replicas that do. */
export function replicasWithSessions(deployments: readonly EngineDeployment[]): Replica[] {
  return deployments.flatMap(({ running, express }) => [...running, ...(express.running ? [express.running] : [])]);
}

/**
 * Returns the replicas of all deployments, as the model manager needs them.
 *
 * @param forgotten called with the key of a model that no request will name again.
 */
export function deployedReplicas(
  deployments: Deployments<Dispatcher<Replica>>,
  forgotten: (key: string) => void,
): ModelReplicas {
  // A deployment that is being deleted must get no model.
  const lasting = () => deployments.all.filter(({ state }) => state !== 'deleting');
  return {
    defaultDeployment: () => {
      const { all } = deployments;
      return (all.find(({ isEmpty, state }) => !isEmpty && state !== 'deleting') ?? all[0])?.name ?? DEFAULT_DEPLOYMENT;
    },
    wanted: (deployment) => deployments.require(deployment).targetReplicas,
    running: () => lasting().flatMap(({ running }) => running),
    withSessions: () => replicasWithSessions(lasting()),
    loadInTurn: (model, replica, load) =>
      deployments.require(replica.deployment).queue.loads.inTurn(model, replica, load),
    isWaitedFor: (key) => deployments.all.some(({ queue }) => queue.isInUse(key, 0)),
    untilUnused: async (key) => {
      await Promise.all(deployments.all.map(({ queue }) => queue.untilModelUnused(key)));
    },
    forget: (key) => {
      for (const { queue } of deployments.all) queue.forgetModel(key);
      forgotten(key);
    },
  };
}
