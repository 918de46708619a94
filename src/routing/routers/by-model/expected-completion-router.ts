import type { PendingRequestView, ReplicaView } from '../../../contracts/request-router.js';
import { emptiest } from './emptiest.js';
import type { ModelRouter, ReplicaCandidates } from './model-router.js';

/**
 * The replica on which the request is expected to be done first, by moving averages of what runs and loads take: the work that
 * it has, the loads that are under way in it, and a load of the model if it has not got it. Those that take nothing are passed
 * over; of equal ones the one with most free bytes.
 *
 * A cold replica is worth its load as soon as all that waits for the model is expected to take longer on those that have it.
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
    // It never ends later by estimates that are wrong than when it has waited for as long as a load takes.
    return lastEndsInMs > expectedLoadMs + expectedRunMs ? 0 : expectedLoadMs - waitedMs;
  }
}

/** The one whose work is expected to end first, and of these the one with most free bytes. */
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
