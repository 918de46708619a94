/**
 * Milliseconds that a request should still wait for a warm replica before it is worth loading its model on a cold one;
 * 0 or less when that time has come.
 *
 * This is when to stop renting skis and buy: wait as long as a load takes, then load. It never costs more than twice the
 * best choice in hindsight (Karlin, Manasse, Rudolph and Sleator 1988).
 */
export function msUntilSpill({ waitedMs, expectedLoadMs }: { waitedMs: number; expectedLoadMs: number }): number {
  return expectedLoadMs - waitedMs;
}

const OVERDUE_LOADS = 20;
const OVERDUE_MS = 1_000;

/**
 * Milliseconds until a model that waits for busy replicas gets its turn at any other like one that no replica has, although
 * that evicts what others use. So much later than the spill, that it happens only where its replicas are as good as stuck.
 */
export function msUntilOverdue({ waitedMs, expectedLoadMs }: { waitedMs: number; expectedLoadMs: number }): number {
  return Math.max(OVERDUE_MS, OVERDUE_LOADS * expectedLoadMs) - waitedMs;
}
