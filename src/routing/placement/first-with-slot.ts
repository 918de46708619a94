import type { ReplicaView } from '../../contracts/request-router.js';

/** Of a router's ranks, the first that has a replica with a free slot, and in it the one with the shortest queue. */
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
