import type { PendingRequestView, ReplicaView } from '../../../contracts/request-router.js';
import { emptiest } from './emptiest.js';
import type { ModelRouter, ReplicaCandidates } from './model-router.js';
import { msUntilSpill } from './spill.js';

/**
 * Of all warm replicas the one with the fewest requests; if there is none, of all idle ones the one with the fewest models,
 * then with most free bytes. What the router of two choices approximates; it looks at each replica that has the model.
 */
export class LeastLoadedRouter implements ModelRouter {
  chooseReplicas(candidates: ReplicaCandidates, request: PendingRequestView): (readonly ReplicaView[])[] {
    const warm = candidates.warm(request.modelKey);
    if (warm.length === 0) return [emptiest(candidates.idle)];
    const isSpilling = warm.length < candidates.size && msUntilSpill(request) <= 0;
    return isSpilling ? [warm, emptiest(candidates.idle)] : [warm];
  }

  msUntilSpill(_warm: readonly ReplicaView[], request: PendingRequestView): number {
    return msUntilSpill(request);
  }
}
