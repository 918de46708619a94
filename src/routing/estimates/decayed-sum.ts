/** A sum in which earlier amounts count exponentially less. */
export class DecayedSum {
  readonly #timeConstantMs: number;
  #sum = 0;
  #at = 0;

  /** @param timeConstantMs time after which an amount counts 1/e of what it was. */
  constructor(timeConstantMs: number) {
    this.#timeConstantMs = timeConstantMs;
  }

  add(amount: number, now: number): void {
    this.#sum = this.total(now) + amount;
    this.#at = now;
  }

  /** What is left of all amounts. */
  total(now: number): number {
    return this.#sum * Math.exp((this.#at - now) / this.#timeConstantMs);
  }

  /** The amount added per millisecond, as a recent average. */
  perMs(now: number): number {
    return this.total(now) / this.#timeConstantMs;
  }
}
