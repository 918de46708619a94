import type { Spill } from '../routers/by-model/model-router.js';
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
  /** To these, and to an idle replica without other work in which a load is worth it. */
  | 'spilling';

/** Least time between two times that a router is asked although no slot has freed. */
const LEAST_PAUSE_MS = 1;

export interface WaitingModel {
  /** Replicas that have the model or are loading it. */
  readonly warmReplicas: number;
  /** Whether the router goes by requests, and so decides itself what a wait is worth. */
  readonly goesByRequest: boolean;
  /** All replicas. */
  readonly replicas: number;
  /** When another load may be worth it. Called only if a replica is cold. */
  spillOf(): Spill;
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
  if (model.goesByRequest) return byRequest(model);
  if (model.warmReplicas === model.replicas) return { eligibility: 'warm', changesInMs: undefined };
  const untilOverdueMs = msUntilOverdue(model);
  if (model.mayLoadInMs > 0) return { eligibility: 'warm', changesInMs: model.mayLoadInMs };
  if (untilOverdueMs <= 0) return { eligibility: 'anywhere', changesInMs: undefined };
  const { atOnce, inMs } = model.spillOf();
  // What has been paid for in one replica becomes worth it in others with time.
  const lookInMs = inMs > 0 ? inMs : Math.max(LEAST_PAUSE_MS, model.waitedMs / 4);
  const eligibility = atOnce || inMs <= 0 ? 'spilling' : 'warm';
  return { eligibility, changesInMs: Math.min(untilOverdueMs, lookInMs) };
}

/**
 * A router by request is asked whenever a slot frees; also when the model may be loaded again or is overdue, since it may
 * want none of the warm replicas, but a cold one that is never idle; when the waiting has paid for a load, since cold
 * replicas are candidates then; and after as long as the request has waited already, since it may want another replica by
 * then.
 */
function byRequest(model: WaitingModel): { eligibility: Eligibility; changesInMs: number } {
  const untilOverdueMs = msUntilOverdue(model);
  const isOverdue = model.warmReplicas < model.replicas && model.mayLoadInMs <= 0 && untilOverdueMs <= 0;
  const spillInMs = model.warmReplicas < model.replicas ? model.spillOf().inMs : 0;
  const changes = [model.mayLoadInMs, untilOverdueMs, spillInMs].filter((milliseconds) => milliseconds > 0);
  const changesInMs = Math.min(Math.max(LEAST_PAUSE_MS, model.waitedMs), ...changes);
  return { eligibility: isOverdue ? 'anywhere' : 'warm', changesInMs };
}
