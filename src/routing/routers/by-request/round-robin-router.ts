import type { PendingRequestView, ReplicaView, RequestRouter } from '../../../contracts/request-router.js';
import { selectAvailableReplicas } from '../ranks.js';

/** Chooses the next replica in turn that can take the request. It suits replicas that have all models. */
export class RoundRobinRouter implements RequestRouter {
  /** All replicas are to have all models. */
  readonly spill = 'router';
  #last: string | undefined;

  chooseReplicas(candidates: readonly ReplicaView[], request: PendingRequestView): ReplicaView[][] {
    const start = candidates.findIndex(({ id }) => id === this.#last) + 1;
    const inTurn = [...candidates.slice(start), ...candidates.slice(0, start)];
    const [next] = selectAvailableReplicas(inTurn, request);
    return next === undefined ? [] : [[next]];
  }

  onRequestRouted({ id }: ReplicaView): void {
    this.#last = id;
  }
}
