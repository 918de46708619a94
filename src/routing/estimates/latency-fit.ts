/** How much the newest call counts; of what is older than some 60 calls, little is left. */
const WEIGHT = 0.05;
/** Sizes that vary less than so much of their mean, squared, say nothing about what another size would take. */
const LEAST_SPREAD = 1e-3;
/** So many times the mean size makes a call a larger one. */
const LARGER = 1.2;
/** A larger size that did not pay may pay by now. */
const TRY_AGAIN_AFTER_CALLS = 1_000;

/**
 * What calls of a model take by their size: latency = a·n + b, by least squares over recent calls, older ones forgotten
 * exponentially.
 */
export class LatencyFit {
  #weight = 0;
  #sizes = 0;
  #times = 0;
  #sizesSquared = 0;
  #sizesTimes = 0;
  #largest = 0;
  #callsSinceLarger = 0;

  /** A call of so many rows took so long. */
  add(size: number, milliseconds: number): void {
    const keep = 1 - WEIGHT;
    this.#weight = keep * this.#weight + 1;
    this.#sizes = keep * this.#sizes + size;
    this.#times = keep * this.#times + milliseconds;
    this.#sizesSquared = keep * this.#sizesSquared + size * size;
    this.#sizesTimes = keep * this.#sizesTimes + size * milliseconds;
    this.#largest = Math.max(this.#largest, size);
    this.#callsSinceLarger = size > LARGER * (this.#sizes / this.#weight) ? 0 : this.#callsSinceLarger + 1;
  }

  /** What calls are expected to take by now; undefined before the first. */
  estimate(): LatencyEstimate | undefined {
    if (this.#weight === 0) return undefined;
    const size = this.#sizes / this.#weight;
    const time = this.#times / this.#weight;
    const variance = this.#sizesSquared / this.#weight - size * size;
    // One size alone leaves the line open; through the origin is the cautious guess.
    if (variance <= LEAST_SPREAD * size * size) {
      const isOpen = this.#largest <= LARGER * size || this.#callsSinceLarger >= TRY_AGAIN_AFTER_CALLS;
      return { slope: time / size, base: 0, tried: { size, largest: this.#largest, isOpen } };
    }
    const tried = { size, largest: this.#largest, isOpen: false };
    const slope = (this.#sizesTimes / this.#weight - size * time) / variance;
    const base = time - slope * size;
    if (slope < 0) return { slope: 0, base: time, tried };
    return base < 0 ? { slope: this.#sizesTimes / this.#sizesSquared, base: 0, tried } : { slope, base, tried };
  }
}

/** latency = slope · size + base, in milliseconds. */
export interface LatencyEstimate {
  readonly slope: number;
  readonly base: number;
  readonly tried: {
    /** Mean of recent calls. */
    readonly size: number;
    readonly largest: number;
    /** Whether all recent ones had that size and nothing is known of larger ones. */
    readonly isOpen: boolean;
  };
}

export function expectedMs({ slope, base }: LatencyEstimate, size: number): number {
  return slope * size + base;
}

/**
 * The largest size expected to take no longer; at least 1. No more than twice the largest that was tried, and as long as
 * nothing is known of larger sizes, twice that, if it was quick enough: so they are found out step by step.
 */
export function largestWithin(estimate: LatencyEstimate, milliseconds: number): number {
  const { slope, base, tried } = estimate;
  const mayTry = tried.isOpen && expectedMs(estimate, tried.size) <= milliseconds;
  if (mayTry) return Math.max(2, Math.floor(2 * tried.size));
  const fitting = slope <= 0 ? Number.POSITIVE_INFINITY : Math.floor((milliseconds - base) / slope);
  return Math.max(1, Math.min(fitting, 2 * tried.largest));
}
