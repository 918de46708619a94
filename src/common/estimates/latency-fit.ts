/** Weight of the newest call; calls older than some 60 calls count little. */
const WEIGHT = 0.05;
/**
 * When the variance of the sizes is below this fraction of their squared mean, it says nothing about other sizes: times
 * vary by some per cent for other reasons.
 */
const LEAST_SPREAD = 0.02;
/** A call counts as larger from this many times the mean size on. */
const LARGER = 1.2;
/**
 * A larger size that did not pay is tried again after so many calls, which double each time up to a limit, and are as few
 * as at first once it paid: the first call of a size is often slow, and what pays may change.
 */
const TRY_AGAIN_AFTER_CALLS = { first: 30, most: 1_000 };

/**
 * The latency of a model's calls by their size: latency = a·n + b, by least squares over recent calls. Older calls are
 * forgotten exponentially. While all calls have one size, it is remembered how a and b were to each other before.
 */
export class LatencyFit {
  #weight = 0;
  #sizes = 0;
  #times = 0;
  #sizesSquared = 0;
  #sizesTimes = 0;
  /** The line that the last calls of different sizes determined. A line through the origin is the cautious guess. */
  #slope = 1;
  #base = 0;
  #hasSpread = false;
  #largest = 0;
  #callsSinceLarger = 0;
  #tryAgainAfterCalls = TRY_AGAIN_AFTER_CALLS.first;

  /** A call of `size` rows took this long. */
  add(size: number, milliseconds: number): void {
    const keep = 1 - WEIGHT;
    this.#weight = keep * this.#weight + 1;
    this.#sizes = keep * this.#sizes + size;
    this.#times = keep * this.#times + milliseconds;
    this.#sizesSquared = keep * this.#sizesSquared + size * size;
    this.#sizesTimes = keep * this.#sizesTimes + size * milliseconds;
    this.#fit();
    this.#largest = Math.max(this.#largest, size);
    if (size <= (LARGER * this.#sizes) / this.#weight) {
      this.#callsSinceLarger += 1;
      return;
    }
    const { first, most } = TRY_AGAIN_AFTER_CALLS;
    if (this.#callsSinceLarger >= this.#tryAgainAfterCalls)
      this.#tryAgainAfterCalls = Math.min(most, 2 * this.#tryAgainAfterCalls);
    // One after the other: the first of them was not slow.
    else if (this.#callsSinceLarger === 0) this.#tryAgainAfterCalls = first;
    this.#callsSinceLarger = 0;
  }

  #fit(): void {
    const size = this.#sizes / this.#weight;
    const variance = this.#sizesSquared / this.#weight - size * size;
    // One size alone does not determine the line.
    this.#hasSpread = variance > LEAST_SPREAD * size * size;
    if (!this.#hasSpread) return;
    const time = this.#times / this.#weight;
    this.#slope = Math.max(0, (this.#sizesTimes / this.#weight - size * time) / variance);
    this.#base = time - this.#slope * size;
    if (this.#base >= 0) return;
    this.#slope = this.#sizesTimes / this.#sizesSquared;
    this.#base = 0;
  }

  /** The present estimate; undefined before the first call. */
  estimate(): LatencyEstimate | undefined {
    if (this.#weight === 0) return undefined;
    const size = this.#sizes / this.#weight;
    const largest = this.#largest;
    if (this.#hasSpread) return { slope: this.#slope, base: this.#base, tried: { size, largest, isOpen: false } };
    const isOpen = largest <= LARGER * size || this.#callsSinceLarger >= this.#tryAgainAfterCalls;
    const expected = this.#slope * size + this.#base;
    const change = expected > 0 ? this.#times / this.#weight / expected : 1;
    return { slope: change * this.#slope, base: change * this.#base, tried: { size, largest, isOpen } };
  }
}

/** latency = slope · size + base, in milliseconds. */
export interface LatencyEstimate {
  readonly slope: number;
  readonly base: number;
  readonly tried: {
    /** Mean size of recent calls. */
    readonly size: number;
    readonly largest: number;
    /** Whether all recent calls had about that size and nothing is known of larger ones. */
    readonly isOpen: boolean;
  };
}

export function expectedMs({ slope, base }: LatencyEstimate, size: number): number {
  return slope * size + base;
}

/**
 * Returns the largest size that is expected to take no longer than `milliseconds`; at least 1, and at most twice the
 * largest size that was tried. While nothing is known of larger sizes, it is twice the recent size if that was quick
 * enough: so larger sizes are tried step by step.
 */
export function largestWithin(estimate: LatencyEstimate, milliseconds: number): number {
  const { slope, base, tried } = estimate;
  const mayTry = tried.isOpen && expectedMs(estimate, tried.size) <= milliseconds;
  if (mayTry) return Math.max(2, Math.floor(2 * tried.size));
  const fitting = slope <= 0 ? Number.POSITIVE_INFINITY : Math.floor((milliseconds - base) / slope);
  return Math.max(1, Math.min(fitting, 2 * tried.largest));
}
