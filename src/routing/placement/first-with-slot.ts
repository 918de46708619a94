import type { ReplicaView } from '../../contracts/request-router.js';

/** Returns the replica with the fewest requests among those with a free slot, in the first rank that has one. */
export function firstWithSlot<R extends ReplicaView>(
  ranks: readonly Iterable<R>[],
  hasSlot: (replica: R) => boolean,
): R | undefined {
  for (const rank of ranks) {
    let shortest: R | undefined;
    for (const replica of rank) {
      if (!hasSlot(replica)) continue;
      if (shortest === undefined || replica.ongoing < shortest.ongoing) shortest = replica;
      if (shortest.ongoing === 0) break;
    }
    if (shortest !== undefined) return shortest;
  }
  return undefined;
}
