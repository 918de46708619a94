import type { PendingRequestView, ReplicaView } from '../../../contracts/request-router.js';
import { emptiest } from './emptiest.js';
import type { ModelRouter, ReplicaCandidates, Spill } from './model-router.js';
import { maySpill, spillOf, spillsTo } from './spill.js';

/**
 * Chooses the warm replica with the fewest requests. When none is warm, it chooses the idle replica with the fewest
 * models, then with the most free bytes. The router of two choices approximates this one, which looks at every warm
 * replica.
 */
export class LeastLoadedRouter implements ModelRouter {
  chooseReplicas(candidates: ReplicaCandidates, request: PendingRequestView): (readonly ReplicaView[])[] {
    const warm = candidates.warm(request.modelKey);
    if (warm.length === 0) return [emptiest(candidates.idle)];
    if (warm.length === candidates.size || !maySpill(this.spillOf(candidates, request))) return [warm];
    return [warm, emptiest(candidates.idle.filter((replica) => this.spillsTo(candidates, request, replica)))];
  }

  spillOf(candidates: ReplicaCandidates, request: PendingRequestView): Spill {
    return spillOf(candidates, request);
  }

  spillsTo(candidates: ReplicaCandidates, request: PendingRequestView, replica: ReplicaView): boolean {
    return spillsTo(candidates, request, replica);
  }
}
