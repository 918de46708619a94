import { warmAmong } from './replica-index.js';
import type { PendingRequestView, ReplicaCandidates, ReplicaView, RequestRouter } from './request-router.js';
import { msUntilSpill } from './spill.js';

type Rank = Iterable<ReplicaView>;

/**
 * Two replicas at random, and the shorter queue of the two wins (Mitzenmacher 2001): among the warm ones, or if there
 * are none, among those with the fewest models.
 *
 * Warm but full replicas are waited for until the wait has cost as much as a load; then cold ones may take the request
 * too (see {@link msUntilSpill}).
 */
export class PowerOfTwoChoicesRouter implements RequestRouter {
  readonly #random: () => number;

  /** @param random uniform in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  chooseReplicas(candidates: ReplicaCandidates, request: PendingRequestView): Rank[] {
    const warm = candidates.warm(request.modelKey);
    if (warm.length === 0) return this.#coldRanks(candidates);
    const pair = this.#two(warm);
    // Who waited so long waits for a slot of any warm replica already, and would have been woken by one.
    if (warm.length < candidates.size && msUntilSpill(request) <= 0) return [pair, ...this.#coldRanks(candidates)];
    // The pair may be full while others are not: any warm one is better than waiting.
    return warm.length <= 2 ? [pair] : [pair, warmAmong(warm, candidates.free, request.modelKey)];
  }

  #coldRanks(candidates: ReplicaCandidates): Rank[] {
    // A load blocks its replica, so only idle ones can take it; those with the fewest models come first.
    return [this.#two(candidates.fewestModels).sort(byFreeBytes), this.#two(candidates.idle).sort(byModels)];
  }

  /**
   * Two distinct ones, or as many as there are, in the order of the list: of two that are equally busy always the same one
   * is taken, so that light work stays on few threads, whose caches are warm, and leaves the cores of the others alone.
   */
  #two(replicas: readonly ReplicaView[]): ReplicaView[] {
    const { length } = replicas;
    if (length === 0) return [];
    const first = Math.floor(this.#random() * length);
    if (length === 1) return [replicas[first] as ReplicaView];
    // Drawn from one fewer and moved past the first, so that the two differ and every pair is as likely.
    const other = Math.floor(this.#random() * (length - 1));
    const second = other < first ? other : other + 1;
    return [replicas[Math.min(first, second)] as ReplicaView, replicas[Math.max(first, second)] as ReplicaView];
  }
}

function byModels(left: ReplicaView, right: ReplicaView): number {
  return left.models.size - right.models.size;
}

function byFreeBytes(left: ReplicaView, right: ReplicaView): number {
  return left.freeBytes === right.freeBytes ? 0 : right.freeBytes - left.freeBytes;
}
