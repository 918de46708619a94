/**
 * Returns the milliseconds that a request should still wait for a warm replica before a load of its model on a cold one
 * is worth it; 0 or less when that time has come.
 *
 * This is the ski-rental rule: wait as long as a load takes, then load. It never costs more than twice the best choice
 * in hindsight (Karlin, Manasse, Rudolph and Sleator 1988).
 */
export function msUntilSpill({ waitedMs, expectedLoadMs }: { waitedMs: number; expectedLoadMs: number }): number {
  return expectedLoadMs - waitedMs;
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
