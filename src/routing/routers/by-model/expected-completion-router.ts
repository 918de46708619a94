import type { PendingRequestView, ReplicaView } from '../../../contracts/request-router.js';
import { emptiest } from './emptiest.js';
import type { ModelRouter, ReplicaCandidates } from './model-router.js';

/**
 * Chooses the replica that is expected to finish the request first, by moving averages of the times of runs and loads.
 * What counts is the replica's work, its loads under way, and a load of the model if it is cold. A replica without a
 * free slot is skipped. Among equals, the replica with the most free bytes wins.
 *
 * A cold replica is worth a load as soon as the waiting requests for the model are expected to take longer on its warm
 * replicas.
 */
export class ExpectedCompletionRouter implements ModelRouter {
  chooseReplicas(candidates: ReplicaCandidates, request: PendingRequestView): (readonly ReplicaView[])[] {
    const warm = candidates.warm(request.modelKey);
    if (warm.length === 0) return [emptiest(candidates.idle)];
    const ranks = [soonest(warm), warm];
    const isSpilling = warm.length < candidates.size && this.msUntilSpill(warm, request) <= 0;
    return isSpilling ? [...ranks, emptiest(candidates.idle)] : ranks;
  }

  msUntilSpill(warm: readonly ReplicaView[], { waitedMs, queued, expectedRunMs, expectedLoadMs }: PendingRequestView) {
    let soonestMs = Number.POSITIVE_INFINITY;
    for (const { expectedWorkMs } of warm) soonestMs = Math.min(soonestMs, expectedWorkMs);
    const lastEndsInMs = soonestMs + (queued * expectedRunMs) / warm.length;
    // However wrong the estimates are, the wait ends when it has lasted as long as a load takes.
    return lastEndsInMs > expectedLoadMs + expectedRunMs ? 0 : expectedLoadMs - waitedMs;
  }
}

/** Returns the replica whose work is expected to end first, and among equals the one with the most free bytes. */
function soonest(replicas: readonly ReplicaView[]): ReplicaView[] {
  let [best] = replicas;
  let bestMs = Number.POSITIVE_INFINITY;
  for (const replica of replicas) {
    const ms = replica.expectedWorkMs;
    if (best !== undefined && (ms > bestMs || (ms === bestMs && replica.freeBytes <= best.freeBytes))) continue;
    best = replica;
    bestMs = ms;
  }
  return best === undefined ? [] : [best];
}
