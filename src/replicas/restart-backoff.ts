/** This many restarts in a row are made without a delay. */
const FREE_RESTARTS = 3;
const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 64_000;

/** A replica that ran this long had recovered: a later failure starts a new row. */
export const RECOVERED_AFTER_MS = 10_000;

/** Returns the milliseconds until the next start: 0 for the first three failures in a row, then 1 s … 64 s. */
export function restartDelayMs(failuresInRow: number): number {
  if (failuresInRow <= FREE_RESTARTS) return 0;
  return Math.min(FIRST_DELAY_MS * 2 ** (failuresInRow - FREE_RESTARTS - 1), LONGEST_DELAY_MS);
}
