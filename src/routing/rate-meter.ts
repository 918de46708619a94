/** Older events count e times less per time constant. */
const TIME_CONSTANT_MS = 5_000;

/** Events per millisecond, from an exponentially decaying count; right from the first events on. */
export class RateMeter {
  readonly #now: () => number;
  #startedAt: number | undefined;
  #updatedAt = 0;
  #weight = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  mark(): void {
    const now = this.#now();
    this.#startedAt ??= now;
    this.#weight = this.#weight * Math.exp((this.#updatedAt - now) / TIME_CONSTANT_MS) + 1;
    this.#updatedAt = now;
  }

  /** Undefined until time has passed since the first event. */
  get perMillisecond(): number | undefined {
    if (this.#startedAt === undefined) return undefined;
    const now = this.#now();
    const ageMs = now - this.#startedAt;
    if (ageMs <= 0) return undefined;
    const weight = this.#weight * Math.exp((this.#updatedAt - now) / TIME_CONSTANT_MS);
    // A meter younger than its time constant has not seen what it would have by then.
    return weight / (TIME_CONSTANT_MS * (1 - Math.exp(-ageMs / TIME_CONSTANT_MS)));
  }
}
