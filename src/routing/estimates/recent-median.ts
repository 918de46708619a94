/**
 * The median of the last samples. Those that stand out do not move it, and a lasting change does when half of them show
 * it.
 */
export class RecentMedian {
  readonly #size: number;
  readonly #samples: number[] = [];
  #value: number | undefined;

  /** @param size number of samples that the median is of; odd. */
  constructor(size = 3) {
    this.#size = size;
  }

  /** Undefined before there are so many samples. */
  get value(): number | undefined {
    return this.#value;
  }

  add(sample: number): void {
    this.#samples.push(sample);
    if (this.#samples.length > this.#size) this.#samples.shift();
    if (this.#samples.length < this.#size) return;
    this.#value = [...this.#samples].sort((left, right) => left - right)[this.#size >> 1];
  }
}
