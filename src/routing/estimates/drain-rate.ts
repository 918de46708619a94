import { MovingAverage } from './moving-average.js';

/** Suggested before the first measurement. */
const FIRST_RETRY_MS = 1_000;
/** Gaps differ much, because some contain a load: the average is over about fifty. */
const GAP_WEIGHT = 0.02;

/** How fast requests leave the queue while others wait. Idle time does not count. */
export class DrainRate {
  readonly #now: () => number;
  readonly #gapMs = new MovingAverage(GAP_WEIGHT);
  #lastLeftAt: number | undefined;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** These requests left for a replica together, while `stillWaiting` others wait. */
  drained(requests: number, stillWaiting: number): void {
    const now = this.#now();
    if (this.#lastLeftAt !== undefined) this.#gapMs.add((now - this.#lastLeftAt) / requests);
    this.#lastLeftAt = stillWaiting > 0 ? now : undefined;
  }

  /** Whole milliseconds, at least one, in which `waiting` requests are expected to leave. */
  retryAfterMs(waiting: number): number {
    const gapMs = this.#gapMs.value;
    return gapMs === undefined ? FIRST_RETRY_MS : Math.max(1, Math.ceil(waiting * gapMs));
  }
}
