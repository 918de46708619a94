import { msUntilOverdue } from '../routers/by-model/spill.js';

/** Where a model's queue stands while it has requests that wait. */
export type Eligibility =
  /** Its requests wait for company. */
  | 'gathering'
  /** No replica has the model, or those that have it are as good as stuck: any idle one may take it in its turn. */
  | 'anywhere'
  /** It waits for the replicas that have it. */
  | 'warm'
  /** Likewise, and so long already that an idle replica without other work may load it too. */
  | 'spilling';

export interface WaitingModel {
  /** Replicas that have the model or are loading it, of how many. */
  readonly warmReplicas: number;
  readonly replicas: number;
  /** Milliseconds until it is worth another load, infinite where waiting does not make it so; asked only where it could have one. */
  msUntilSpill(): number;
  /** Milliseconds that its longest waiting request has waited. */
  readonly waitedMs: number;
  readonly expectedLoadMs: number;
  /** Milliseconds that its requests go on waiting for company; undefined when they do not. */
  readonly gatherMs: number | undefined;
  /** Milliseconds until it may be loaded again after a load that failed; 0 when it may be. */
  readonly mayLoadInMs: number;
}

/** Where the model belongs now, and in how many milliseconds its waiting changes that; undefined when it does not. */
export function eligibilityOf(model: WaitingModel): { eligibility: Eligibility; changesInMs: number | undefined } {
  if (model.gatherMs !== undefined) return { eligibility: 'gathering', changesInMs: Math.max(0, model.gatherMs) };
  if (model.warmReplicas === 0) return { eligibility: 'anywhere', changesInMs: undefined };
  if (model.warmReplicas === model.replicas) return { eligibility: 'warm', changesInMs: undefined };
  const ownMs = model.msUntilSpill();
  const untilOverdueMs = msUntilOverdue(model);
  if (ownMs === Number.POSITIVE_INFINITY) {
    // Whoever is asked whenever something frees is asked also when it may be loaded again; and it may want none of those that
    // have it, but one that is never idle.
    const changes = [model.mayLoadInMs, untilOverdueMs].filter((milliseconds) => milliseconds > 0);
    if (changes.length === 0) return { eligibility: 'anywhere', changesInMs: undefined };
    return { eligibility: 'warm', changesInMs: Math.min(...changes) };
  }
  const untilSpillMs = Math.max(ownMs, model.mayLoadInMs);
  if (untilSpillMs > 0) return { eligibility: 'warm', changesInMs: untilSpillMs };
  if (untilOverdueMs > 0) return { eligibility: 'spilling', changesInMs: untilOverdueMs };
  return { eligibility: 'anywhere', changesInMs: undefined };
}
