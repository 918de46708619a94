import { wideKeyOf } from '../../../contracts/model-reference.js';
import type { ReplicaView } from '../../../contracts/request-router.js';
import type { ModelDemand, ReplicaCandidates, Spill } from './model-router.js';

/** A shorter average wait pays for nothing: the first run after a load may take as long. */
const SHORT_WAIT_MS = 5;
/** A longer one is needed where all is expected to run long before a load ends: batches have yet to grow to their size. */
const SOON_DONE_WAIT_MS = 20;
/** An eviction counts as a cost to the requests that come to the replica within the time of this many loads. */
const EVICTION_LOADS = 10;

/** Returns when {@link spillsTo} may say yes to a replica, at the earliest. */
export function spillOf(candidates: ReplicaCandidates, demand: ModelDemand): Spill {
  const isLoading = candidates.isLoading(demand.modelKey);
  const isOverdue = msUntilOverdue(demand) <= 0;
  return {
    atOnce: isOverdue || isSaturated(demand, 0),
    inMs: isLoading ? Number.POSITIVE_INFINITY : msUntilPaid(demand, 0),
  };
}

export function maySpill({ atOnce, inMs }: Spill): boolean {
  return atOnce || inMs <= 0;
}

/**
 * Whether another load of a model, which its warm replicas could serve later, is worth it in this idle replica.
 *
 * If no other model has to leave there, a saturated model goes there at once. Otherwise its waiting must have paid for
 * the load. While a replica is loading the model, waiting pays for no other load: that would not end sooner.
 */
export function spillsTo(candidates: ReplicaCandidates, demand: ModelDemand, replica: ReplicaView): boolean {
  const { modelKey, modelBytes, expectedLoadMs } = demand;
  const { throughput } = replica.routingStats;
  // Where the model's lone requests run, they are what came last. Otherwise nothing of this model came here. A handler's
  // own statistic may be in the place of the throughput, and be any number.
  const isOthers = throughput > 0 && !replica.models.has(wideKeyOf(modelKey));
  const others = isOthers ? (throughput / 1_000) * expectedLoadMs : 0;
  const isRoomy = hasRoom(replica, modelBytes);
  // However the load goes that is under way, it goes on for too long.
  if (msUntilOverdue(demand) <= 0) return true;
  if (isRoomy && isSaturated(demand, others)) return true;
  if (candidates.isLoading(modelKey)) return false;
  return msUntilPaid(demand, isRoomy ? others : EVICTION_LOADS * others) <= 0;
}

/**
 * Returns the milliseconds until the waiting has paid for a load; 0 or less when it has.
 *
 * This is the ski-rental rule: wait until that has cost as much as a load, then load. It never costs more than twice
 * the best choice in hindsight (Karlin, Manasse, Rudolph and Sleator 1988). The cost of waiting is that of all requests
 * that wait. However many others a load holds up, it is worth it when each request has waited for half of a load on
 * average: of requests that come evenly, the first one has then waited for as long as a load takes.
 *
 * @param others requests for other models that the load is expected to hold up.
 */
export function msUntilPaid(
  { queued, totalWaitedMs, expectedDrainMs, expectedLoadMs }: ModelDemand,
  others: number,
): number {
  const costMs = loadCostMs(expectedLoadMs, Math.min(others, queued - 1));
  const isSoonDone = expectedDrainMs > 0 && 2 * expectedDrainMs <= expectedLoadMs;
  const leastMs = isSoonDone ? SOON_DONE_WAIT_MS : Math.min(expectedLoadMs, SHORT_WAIT_MS);
  return Math.max(costMs / queued, leastMs) - totalWaitedMs / queued;
}

/**
 * Whether the waiting requests are expected to keep the model's replicas, those that load it included, busy for longer
 * than a load takes, and to wait for longer in sum than the load costs.
 *
 * @param others requests for other models that the load is expected to hold up.
 */
export function isSaturated({ queued, expectedDrainMs, expectedLoadMs }: ModelDemand, others: number): boolean {
  return expectedDrainMs > expectedLoadMs && (queued * expectedDrainMs) / 2 >= loadCostMs(expectedLoadMs, others);
}

/** Returns the cost of a load: its own time, and what it holds up others, each for half of that time on average. */
function loadCostMs(expectedLoadMs: number, others: number): number {
  return expectedLoadMs * (1 + others / 2);
}

/** Whether the replica can load a model of this size without an eviction. */
export function hasRoom(
  { freeModels, freeBytes }: Pick<ReplicaView, 'freeModels' | 'freeBytes'>,
  bytes: number,
): boolean {
  return freeModels >= 1 && freeBytes >= bytes;
}

const OVERDUE_LOADS = 20;
const OVERDUE_MS = 1_000;

/**
 * Returns the milliseconds until a model that waits for its busy replicas may go to any other replica, like a model
 * that is warm nowhere, although that evicts models in use. It is so much later than the spill that it happens only
 * when the model's replicas count as stuck.
 */
export function msUntilOverdue({ waitedMs, expectedLoadMs }: { waitedMs: number; expectedLoadMs: number }): number {
  return Math.max(OVERDUE_MS, OVERDUE_LOADS * expectedLoadMs) - waitedMs;
}
