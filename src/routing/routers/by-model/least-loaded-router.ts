import type { ReplicaView } from '../../../contracts/request-router.js';
import { emptiest } from './emptiest.js';
import type { ModelDemand, ModelRouter, ReplicaCandidates, Spill } from './model-router.js';
import { maySpill, spillOf, spillsTo } from './spill.js';

/**
 * Chooses the warm replica with the fewest requests. When none is warm, it chooses the idle replica with the fewest
 * models, then with the most free bytes. The router of two choices approximates this one, which looks at every warm
 * replica.
 */
export class LeastLoadedRouter implements ModelRouter {
  chooseReplicas(candidates: ReplicaCandidates, demand: ModelDemand): (readonly ReplicaView[])[] {
    const warm = candidates.warm(demand.modelKey);
    if (warm.length === 0) return [emptiest(candidates.idle)];
    if (warm.length === candidates.size || !maySpill(this.spillOf(candidates, demand))) return [warm];
    return [warm, emptiest(candidates.idle.filter((replica) => this.spillsTo(candidates, demand, replica)))];
  }

  spillOf(candidates: ReplicaCandidates, demand: ModelDemand): Spill {
    return spillOf(candidates, demand);
  }

  spillsTo(candidates: ReplicaCandidates, demand: ModelDemand, replica: ReplicaView): boolean {
    return spillsTo(candidates, demand, replica);
  }
}
