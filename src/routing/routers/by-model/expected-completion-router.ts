import type { ReplicaView } from '../../../contracts/request-router.js';
import { emptiest } from './emptiest.js';
import type { ModelDemand, ModelRouter, ReplicaCandidates, Spill } from './model-router.js';
import { msUntilPaid } from './spill.js';

/**
 * Chooses the replica that is expected to finish the request first, by moving averages of the times of runs and loads.
 * What counts is the replica's work, its loads under way, and a load of the model if it is cold. A replica without a
 * free slot is skipped. Among equals, the replica with the most free bytes wins.
 *
 * A cold replica is worth a load as soon as the waiting requests for the model are expected to take longer on its warm
 * replicas, even if another model has to leave; but not while the model is being loaded.
 */
export class ExpectedCompletionRouter implements ModelRouter {
  chooseReplicas(candidates: ReplicaCandidates, demand: ModelDemand): (readonly ReplicaView[])[] {
    const warm = candidates.warm(demand.modelKey);
    if (warm.length === 0) return [emptiest(candidates.idle)];
    const ranks = [soonest(warm), warm];
    const isSpilling = warm.length < candidates.size && this.spillsTo(candidates, demand);
    return isSpilling ? [...ranks, emptiest(candidates.idle)] : ranks;
  }

  spillOf(candidates: ReplicaCandidates, demand: ModelDemand): Spill {
    return { atOnce: false, inMs: this.#msUntilSpill(candidates, demand) };
  }

  spillsTo(candidates: ReplicaCandidates, demand: ModelDemand): boolean {
    return this.#msUntilSpill(candidates, demand) <= 0;
  }

  #msUntilSpill(candidates: ReplicaCandidates, demand: ModelDemand): number {
    const { modelKey, expectedDrainMs, expectedRunMs, expectedLoadMs } = demand;
    if (candidates.isLoading(modelKey)) return Number.POSITIVE_INFINITY;
    let soonestMs = Number.POSITIVE_INFINITY;
    for (const { expectedWorkMs } of candidates.warm(modelKey)) soonestMs = Math.min(soonestMs, expectedWorkMs);
    // However wrong the estimates are, the wait ends when it has cost as much as a load, whatever has to leave for it.
    const isLate = soonestMs + expectedDrainMs > expectedLoadMs + expectedRunMs;
    return isLate ? 0 : msUntilPaid(demand, Number.POSITIVE_INFINITY);
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
