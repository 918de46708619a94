import type { PendingRequestView, ReplicaView } from '../../../contracts/request-router.js';
import { emptiest } from './emptiest.js';
import type { ModelRouter, ReplicaCandidates } from './model-router.js';
import { msUntilSpill } from './spill.js';

/**
 * Chooses the warm replica with the fewest requests. When none is warm, it chooses the idle replica with the fewest
 * models, then with the most free bytes. The router of two choices approximates this one, which looks at every warm
 * replica.
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
