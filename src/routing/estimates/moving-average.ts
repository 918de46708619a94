/** An exponentially weighted moving average that starts with the first sample. */
export class MovingAverage {
  readonly #weight: number;
  #value: number | undefined;

  /** @param weight of a new sample, from 0 to 1. */
  constructor(weight = 0.2) {
    this.#weight = weight;
  }

  get value(): number | undefined {
    return this.#value;
  }

  add(sample: number): void {
    this.#value = this.#value === undefined ? sample : this.#value + this.#weight * (sample - this.#value);
  }
}
