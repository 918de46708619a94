import type { PendingRequestView, ReplicaView } from '../../../contracts/request-router.js';
import { warmAmong } from '../../placement/replicas/replica-index.js';
import { chooseTwo } from '../ranks.js';
import type { ModelRouter, ReplicaCandidates } from './model-router.js';
import { msUntilSpill } from './spill.js';

type Rank = Iterable<ReplicaView>;

/**
 * Two replicas at random, and the shorter queue of the two wins (Mitzenmacher 2001): among the warm ones, or if there
 * are none, among those with the fewest models.
 *
 * Warm but full replicas are waited for until the wait has cost as much as a load; then cold ones may take the request
 * too (see {@link msUntilSpill}).
 */
export class PowerOfTwoChoicesRouter implements ModelRouter {
  readonly #random: () => number;

  /** @param random uniform in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  chooseReplicas(candidates: ReplicaCandidates, request: PendingRequestView): Rank[] {
    const warm = candidates.warm(request.modelKey);
    if (warm.length === 0) return this.#coldRanks(candidates);
    // Of two that are equally busy always the same one is taken, so that light work stays on few threads, whose caches are
    // warm, and leaves the cores of the others alone.
    const pair = chooseTwo(warm, this.#random);
    // Who waited so long waits for a slot of any warm replica already, and would have been woken by one.
    if (warm.length < candidates.size && msUntilSpill(request) <= 0) return [pair, ...this.#coldRanks(candidates)];
    // The pair may be full while others are not: any warm one is better than waiting.
    return warm.length <= 2 ? [pair] : [pair, warmAmong(warm, candidates.free, request.modelKey)];
  }

  msUntilSpill(_warm: readonly ReplicaView[], request: PendingRequestView): number {
    return msUntilSpill(request);
  }

  #coldRanks(candidates: ReplicaCandidates): Rank[] {
    // A load blocks its replica, so only idle ones can take it; those with the fewest models come first.
    return [
      chooseTwo(candidates.fewestModels, this.#random).sort(byFreeBytes),
      chooseTwo(candidates.idle, this.#random).sort(byModels),
    ];
  }
}

function byModels(left: ReplicaView, right: ReplicaView): number {
  return left.models.size - right.models.size;
}

function byFreeBytes(left: ReplicaView, right: ReplicaView): number {
  return left.freeBytes === right.freeBytes ? 0 : right.freeBytes - left.freeBytes;
}
