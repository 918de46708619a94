import type { ReplicaView } from '../../../contracts/request-router.js';

/** Returns the replica with the fewest models, and among equals with the most free bytes; or none. */
export function emptiest(replicas: readonly ReplicaView[]): ReplicaView[] {
  let best: ReplicaView | undefined;
  for (const replica of replicas) if (best === undefined || isEmptier(replica, best)) best = replica;
  return best === undefined ? [] : [best];
}

function isEmptier(left: ReplicaView, right: ReplicaView): boolean {
  const [fewer, more] = [left.models.size, right.models.size];
  return fewer < more || (fewer === more && left.freeBytes > right.freeBytes);
}
