import { msUntilOverdue } from '../routers/by-model/spill.js';

/** Which replicas a model's waiting requests may go to. */
export type Eligibility =
  /** To none: the requests wait for company. */
  | 'gathering'
  /** To none: a replica tries the model, which has never loaded. It may never load, so it holds up no other model. */
  | 'trying'
  /** To any idle replica in the model's turn: no replica has the model, or its replicas count as stuck. */
  | 'anywhere'
  /** To the replicas that have the model. */
  | 'warm'
  /** To these, and to an idle replica without other work: they have waited long enough for another load. */
  | 'spilling';

export interface WaitingModel {
  /** Replicas that have the model or are loading it. */
  readonly warmReplicas: number;
  /** All replicas. */
  readonly replicas: number;
  /** Milliseconds until another load is worth it; infinite if it never is. Called only if a replica is cold. */
  msUntilSpill(): number;
  /** Milliseconds that the longest waiting request has waited. */
  readonly waitedMs: number;
  readonly expectedLoadMs: number;
  /** Milliseconds for which the requests still wait for company; undefined when they do not. */
  readonly gatherMs: number | undefined;
  /** Milliseconds until the model may be loaded again after a failed load; 0 when it may be loaded now. */
  readonly mayLoadInMs: number;
  /** Whether a replica is loading it, and it has never loaded before. */
  readonly isOnTrial: boolean;
}

/** Returns the model's eligibility, and the milliseconds after which time changes it; undefined if it does not. */
export function eligibilityOf(model: WaitingModel): { eligibility: Eligibility; changesInMs: number | undefined } {
  if (model.gatherMs !== undefined) return { eligibility: 'gathering', changesInMs: Math.max(0, model.gatherMs) };
  if (model.warmReplicas === 0) return { eligibility: 'anywhere', changesInMs: undefined };
  if (model.isOnTrial) return { eligibility: 'trying', changesInMs: undefined };
  if (model.warmReplicas === model.replicas) return { eligibility: 'warm', changesInMs: undefined };
  const ownMs = model.msUntilSpill();
  const untilOverdueMs = msUntilOverdue(model);
  if (ownMs === Number.POSITIVE_INFINITY) {
    // A router by request is asked whenever a slot frees, and also when the model may be loaded again or is overdue: it
    // may want none of the warm replicas, but a cold one that is never idle.
    const changes = [model.mayLoadInMs, untilOverdueMs].filter((milliseconds) => milliseconds > 0);
    if (changes.length === 0) return { eligibility: 'anywhere', changesInMs: undefined };
    return { eligibility: 'warm', changesInMs: Math.min(...changes) };
  }
  const untilSpillMs = Math.max(ownMs, model.mayLoadInMs);
  if (untilSpillMs > 0) return { eligibility: 'warm', changesInMs: untilSpillMs };
  if (untilOverdueMs > 0) return { eligibility: 'spilling', changesInMs: untilOverdueMs };
  return { eligibility: 'anywhere', changesInMs: undefined };
}
