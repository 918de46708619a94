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
