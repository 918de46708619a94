/** The label value under which those without a series of their own count, and those that are gone. */
export const OTHER = '(other)';

export type Labels = Readonly<Record<string, string>>;

/** The value of one series. */
export interface Line<Self> {
  /** Whether nothing was counted yet. */
  readonly isEmpty: boolean;
  /** Adds this line's counts to the other one. */
  addTo(other: Self): void;
  copy(): Self;
  reset(): void;
}

export interface Series<L> {
  readonly labels: Labels;
  readonly line: L;
}

/** The series of one metric. */
export interface SeriesSource<L> {
  /** The series in which something was counted. One without labels is always among them. */
  counted(): Iterable<Series<L>>;
  reset(): void;
}

/**
 * A count of events. The caller adds to `sum`. `inc` of prom-client takes longer than all other work of the calling
 * thread for a request in a batch.
 */
export class Count implements Line<Count> {
  sum = 0;

  get isEmpty(): boolean {
    return this.sum === 0;
  }

  addTo(other: Count): void {
    other.sum += this.sum;
  }

  copy(): Count {
    const copy = new Count();
    this.addTo(copy);
    return copy;
  }

  reset(): void {
    this.sum = 0;
  }
}

/** How many of the observed values lie under each bound, and their sum. */
export class Distribution implements Line<Distribution> {
  /** Counts by upper bound; the last is for values above all bounds. */
  readonly counts: Float64Array;
  sum = 0;
  readonly #bounds: readonly number[];

  /** @param bounds upper bounds in ascending order. */
  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.counts = new Float64Array(bounds.length + 1);
  }

  get isEmpty(): boolean {
    return this.counts.every((count) => count === 0);
  }

  observe(value: number): void {
    const bounds = this.#bounds;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket += 1;
    this.counts[bucket] = (this.counts[bucket] as number) + 1;
    this.sum += value;
  }

  /** @param other a distribution with the same bounds. */
  addTo(other: Distribution): void {
    for (const [bucket, count] of this.counts.entries())
      other.counts[bucket] = (other.counts[bucket] as number) + count;
    other.sum += this.sum;
  }

  copy(): Distribution {
    const copy = new Distribution(this.#bounds);
    this.addTo(copy);
    return copy;
  }

  reset(): void {
    this.counts.fill(0);
    this.sum = 0;
  }
}
