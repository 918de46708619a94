import type { PendingRequestView, ReplicaView, RequestRouter } from '../../../contracts/request-router.js';
import { rankReplicasViaLocality, rankReplicasViaMultiplex, selectAvailableReplicas } from '../ranks.js';

/**
 * Replicas that have the model before others, and of these those that are near the request (see
 * {@link rankReplicasViaLocality}); of each rank those that can take it, and of these the one with the least throughput.
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
