/** This many restarts in a row are made without a delay. */
const FREE_RESTARTS = 3;
const FIRST_DELAY_MS = 1_000;
const LONGEST_DELAY_MS = 64_000;

/** A replica that ran this long can start, though it had no request to answer. */
const RECOVERED_AFTER_MS = 10_000;

/**
 * Whether a replica that failed had shown that it can start: its failure begins a new row.
 *
 * @param answered requests that it answered, with an error or without.
 */
export function hadRecovered(ranMs: number, answered: number): boolean {
  return answered > 0 || ranMs >= RECOVERED_AFTER_MS;
}

/** Returns the milliseconds until the next start: 0 for the first three failures in a row, then 1 s … 64 s. */
export function restartDelayMs(failuresInRow: number): number {
  if (failuresInRow <= FREE_RESTARTS) return 0;
  return Math.min(FIRST_DELAY_MS * 2 ** (failuresInRow - FREE_RESTARTS - 1), LONGEST_DELAY_MS);
}

/** What one restart uses up of the time between restarts: a start takes about a tenth of it. */
const RESTART_COST_MS = 500;

/**
 * Keeps restarts of one place from following each other without end, though each replica answers requests before it
 * fails: three at once, and then two in a second. So a request that always ends the thread costs the others half a
 * second at most, and the processor little.
 */
export class RestartPace {
  #paidUntil = Number.NEGATIVE_INFINITY;

  /** Counts a restart. @returns the milliseconds until it: from 0 to 500, if earlier restarts kept to their pauses. */
  delayMs(now: number): number {
    this.#paidUntil = Math.max(this.#paidUntil, now) + RESTART_COST_MS;
    return Math.max(0, this.#paidUntil - now - FREE_RESTARTS * RESTART_COST_MS);
  }
}
