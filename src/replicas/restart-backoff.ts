/** So many restarts in a row are made at once. */
const FREE_RESTARTS = 3;
const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 64_000;

/** A replica that ran so long had recovered: what comes after is no longer "in a row". */
export const RECOVERED_AFTER_MS = 10_000;

/** Milliseconds before the next start, after so many failures in a row: none for the first three, then 1 s … 64 s. */
export function restartDelayMs(failuresInRow: number): number {
  if (failuresInRow <= FREE_RESTARTS) return 0;
  return Math.min(FIRST_DELAY_MS * 2 ** (failuresInRow - FREE_RESTARTS - 1), LONGEST_DELAY_MS);
}
