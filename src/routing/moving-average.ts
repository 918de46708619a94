/** How much a new sample counts. */
const WEIGHT = 0.2;

/** An exponentially weighted moving average; the first sample counts whole. */
export class MovingAverage {
  #value: number | undefined;

  get value(): number | undefined {
    return this.#value;
  }

  add(sample: number): void {
    this.#value = this.#value === undefined ? sample : this.#value + WEIGHT * (sample - this.#value);
  }
}
