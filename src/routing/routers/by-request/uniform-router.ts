import type { PendingRequestView, ReplicaView, RequestRouter } from '../../../contracts/request-router.js';
import { selectAvailableReplicas } from '../ranks.js';

/** Draws a replica at random from those that can take the request. It suits replicas that have all models. */
export class UniformRouter implements RequestRouter {
  /** All replicas are to have all models. */
  readonly spill = 'router';
  readonly #random: () => number;

  /** @param random uniform in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  chooseReplicas(candidates: readonly ReplicaView[], request: PendingRequestView): ReplicaView[][] {
    const available = selectAvailableReplicas(candidates, request);
    const drawn = available[Math.floor(this.#random() * available.length)];
    return drawn === undefined ? [] : [[drawn]];
  }
}
