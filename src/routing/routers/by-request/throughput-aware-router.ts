import type { PendingRequestView, ReplicaView, RequestRouter } from '../../../contracts/request-router.js';
import { rankReplicasViaLocality, rankReplicasViaMultiplex, selectAvailableReplicas } from '../ranks.js';

/**
 * Prefers replicas that have the model, and of these the ones near the request (see {@link rankReplicasViaLocality}).
 * In each rank it chooses the replica with the least throughput of those that can take the request.
 */
export class ThroughputAwareRouter implements RequestRouter {
  chooseReplicas(candidates: readonly ReplicaView[], request: PendingRequestView): ReplicaView[][] {
    return rankReplicasViaMultiplex(candidates, request)
      .flatMap((rank) => rankReplicasViaLocality(rank, request))
      .map((rank) => leastThroughput(selectAvailableReplicas(rank, request)));
  }
}

function leastThroughput(replicas: readonly ReplicaView[]): ReplicaView[] {
  let best: ReplicaView | undefined;
  let least = Number.POSITIVE_INFINITY;
  for (const replica of replicas) {
    const { throughput } = replica.routingStats;
    if (best !== undefined && throughput >= least) continue;
    best = replica;
    least = throughput;
  }
  return best === undefined ? [] : [best];
}
