import { hashPoint } from '../../../common/hash-point.js';
import type { PendingRequestView, ReplicaView, RequestRouter } from '../../../contracts/request-router.js';

const VIRTUAL_NODES = 100;
const BOUND = 1.25;

interface VirtualNode {
  readonly point: number;
  readonly id: string;
}

/**
 * Sends requests with the same shard key to the same replica; without a shard key, the model's id is the key. Each
 * replica has 100 points on a ring, and a request goes to the first replica from its key's point on. So a replica that
 * comes or goes moves only its own share of the keys.
 *
 * A replica with a quarter more than its share of the ongoing requests takes none (consistent hashing with bounded
 * loads, Mirrokni, Thorup and Zadimoghaddam 2018). The next replica on the ring may take the request after it has
 * waited as long as a run takes, and a load as well if that replica is cold: until then the request is better off where
 * its key belongs.
 */
export class ConsistentHashRouter implements RequestRouter {
  /** A key has its own place, warm or not. */
  readonly spill = 'router';
  #ring: readonly VirtualNode[] = [];

  onReplicasChanged(candidates: readonly ReplicaView[]): void {
    this.#ring = candidates
      .flatMap(({ id }) =>
        Array.from({ length: VIRTUAL_NODES }, (_, node) => ({ id, point: hashPoint(id, String(node)) })),
      )
      .sort((left, right) => left.point - right.point || (left.id < right.id ? -1 : 1));
  }

  chooseReplicas(candidates: readonly ReplicaView[], request: PendingRequestView): ReplicaView[][] {
    const underWay = candidates.reduce((sum, { ongoing }) => sum + ongoing, 0);
    const most = Math.ceil((BOUND * (underWay + 1)) / candidates.length);
    const byId = new Map(candidates.map((replica) => [replica.id, replica]));
    const { waitedMs, expectedRunMs, expectedLoadMs, modelKey } = request;
    const inOrder: ReplicaView[] = [];
    for (const id of this.#idsFrom(hashPoint(request.shardKey ?? request.model))) {
      const replica = byId.get(id);
      if (replica !== undefined && byId.delete(id)) inOrder.push(replica);
      if (byId.size === 0) break;
    }
    const within = inOrder.filter(({ ongoing }) => ongoing < most);
    const [home] = inOrder;
    const worthIt = within.filter((replica) => {
      const loadMs = replica.models.has(modelKey) ? 0 : expectedLoadMs;
      return replica === home || waitedMs >= expectedRunMs + loadMs;
    });
    if (worthIt.length > 0 || home === undefined) return worthIt.map((replica) => [replica]);
    // Ranking a replica means to wait for it. While the home replica takes no requests, ranking it cannot overload it.
    return [[home.ongoing >= home.capacity ? home : (within[0] as ReplicaView)]];
  }

  /** Yields ids along the ring from the point on, each as often as it has points. */
  *#idsFrom(point: number): Iterable<string> {
    const ring = this.#ring;
    let low = 0;
    let high = ring.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((ring[middle] as VirtualNode).point < point) low = middle + 1;
      else high = middle;
    }
    for (let step = 0; step < ring.length; step += 1) yield (ring[(low + step) % ring.length] as VirtualNode).id;
  }
}
