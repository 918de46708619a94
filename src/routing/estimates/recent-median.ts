/** Samples that the median is of. */
const SAMPLES = 3;

/** The median of the last three samples. One that stands out does not move it, and a lasting change does at the second. */
export class RecentMedian {
  readonly #samples: number[] = [];
  #value: number | undefined;

  /** Undefined before the third sample. */
  get value(): number | undefined {
    return this.#value;
  }

  add(sample: number): void {
    this.#samples.push(sample);
    if (this.#samples.length > SAMPLES) this.#samples.shift();
    if (this.#samples.length === SAMPLES) this.#value = [...this.#samples].sort((left, right) => left - right)[1];
  }
}
