/** The greatest of the recent amounts: of those of the last window, and of up to one window before it. */
export class RecentMaximum {
  readonly #windowMs: number;
  #current = 0;
  #previous = 0;
  #until = Number.NEGATIVE_INFINITY;

  constructor(windowMs: number) {
    this.#windowMs = windowMs;
  }

  add(amount: number, now: number): void {
    this.#turn(now);
    this.#current = Math.max(this.#current, amount);
  }

  /** The greatest recent amount; 0 when there is none. */
  at(now: number): number {
    this.#turn(now);
    return Math.max(this.#current, this.#previous);
  }

  #turn(now: number): void {
    if (now < this.#until) return;
    this.#previous = now < this.#until + this.#windowMs ? this.#current : 0;
    this.#current = 0;
    this.#until = now + this.#windowMs;
  }
}
