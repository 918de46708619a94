import type { PendingRequestView, ReplicaView } from '../../../contracts/request-router.js';
import { warmAmong } from '../../placement/replicas/replica-index.js';
import { chooseTwo } from '../ranks.js';
import type { ModelRouter, ReplicaCandidates } from './model-router.js';
import { msUntilSpill } from './spill.js';

type Rank = Iterable<ReplicaView>;

/**
 * Draws two replicas at random, and the shorter queue wins (Mitzenmacher 2001): of the warm replicas, or if there are
 * none, of those with the fewest models.
 *
 * When the warm replicas are full, the request waits for them until the wait has cost as much as a load; then a cold
 * replica may take it too (see {@link msUntilSpill}).
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
    // Of two equally busy replicas the same one always wins: so light work stays on few threads, whose caches are warm,
    // and leaves the cores of the others alone.
    const pair = chooseTwo(warm, this.#random);
    // No warm replica beside the pair is ranked: after so long a wait, any free slot of one would have woken the
    // request.
    if (warm.length < candidates.size && msUntilSpill(request) <= 0) return [pair, ...this.#coldRanks(candidates)];
    // The pair may be full while other warm replicas are not: any of them is better than waiting.
    return warm.length <= 2 ? [pair] : [pair, warmAmong(warm, candidates.free, request.modelKey)];
  }

  msUntilSpill(_warm: readonly ReplicaView[], request: PendingRequestView): number {
    return msUntilSpill(request);
  }

  #coldRanks(candidates: ReplicaCandidates): Rank[] {
    // A load blocks its replica, so only an idle one can take it. Replicas with the fewest models come first.
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
