import type { ReplicaView } from '../../../contracts/request-router.js';
import { warmAmong } from '../../placement/replicas/replica-index.js';
import { chooseTwo } from '../ranks.js';
import type { ModelDemand, ModelRouter, ReplicaCandidates, Spill } from './model-router.js';
import { maySpill, spillOf, spillsTo } from './spill.js';

type Rank = Iterable<ReplicaView>;

/**
 * Draws two replicas at random, and the shorter queue wins (Mitzenmacher 2001): of the warm replicas, or if there are
 * none, of those with the fewest models.
 *
 * When the warm replicas are full, the requests wait for them until a load in a cold replica is worth it (see
 * {@link spillsTo}).
 */
export class PowerOfTwoChoicesRouter implements ModelRouter {
  readonly #random: () => number;

  /** @param random uniform in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  chooseReplicas(candidates: ReplicaCandidates, demand: ModelDemand): Rank[] {
    const warm = candidates.warm(demand.modelKey);
    if (warm.length === 0) return this.#coldRanks(candidates);
    // Of two equally busy replicas the same one always wins: so light work stays on few threads, whose caches are warm,
    // and leaves the cores of the others alone.
    const pair = chooseTwo(warm, this.#random);
    // The pair may be full while other warm replicas are not: any of them is better than waiting, or than a load.
    const ranks = warm.length <= 2 ? [pair] : [pair, warmAmong(warm, candidates.free, demand.modelKey)];
    if (warm.length === candidates.size || !maySpill(this.spillOf(candidates, demand))) return ranks;
    const worth = (rank: Rank) => filter(rank, (replica) => this.spillsTo(candidates, demand, replica));
    return [...ranks, ...[...this.#coldRanks(candidates), candidates.idle].map(worth)];
  }

  spillOf(candidates: ReplicaCandidates, demand: ModelDemand): Spill {
    return spillOf(candidates, demand);
  }

  spillsTo(candidates: ReplicaCandidates, demand: ModelDemand, replica: ReplicaView): boolean {
    return spillsTo(candidates, demand, replica);
  }

  #coldRanks(candidates: ReplicaCandidates): Rank[] {
    // A load blocks its replica, so only an idle one can take it. Replicas with the fewest models come first.
    return [
      chooseTwo(candidates.fewestModels, this.#random).sort(byFreeBytes),
      chooseTwo(candidates.idle, this.#random).sort(byModels),
    ];
  }
}

/** Looks at no more of the rank than is asked for. */
function* filter(rank: Rank, passes: (replica: ReplicaView) => boolean): Rank {
  for (const replica of rank) if (passes(replica)) yield replica;
}

function byModels(left: ReplicaView, right: ReplicaView): number {
  return left.models.size - right.models.size;
}

function byFreeBytes(left: ReplicaView, right: ReplicaView): number {
  return left.freeBytes === right.freeBytes ? 0 : right.freeBytes - left.freeBytes;
}
