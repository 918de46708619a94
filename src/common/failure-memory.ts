import { InfermuxError } from './errors.js';

const FIRST_MS = 1_000;
const LONGEST_MS = 64_000;

/** Most failures that are remembered: a handler may be asked for any number of missing models. */
const MOST = 10_000;

interface Failure {
  readonly error: InfermuxError;
  readonly count: number;
  readonly until: number;
}

/**
 * Remembers failed loads for a while, so that a broken model costs one load per while, not one per request. The while
 * doubles with every failure in a row, from 1 s to 64 s.
 */
export class FailureMemory {
  readonly #now: () => number;
  readonly #longestMs: number;
  readonly #failures = new Map<string, Failure>();

  /** @param now returns milliseconds from any start. @param longestMs the longest while. */
  constructor(now: () => number, longestMs = LONGEST_MS) {
    this.#now = now;
    this.#longestMs = longestMs;
  }

  /** @returns milliseconds for which the failure is remembered. */
  record(key: string, error: InfermuxError): number {
    const count = (this.#failures.get(key)?.count ?? 0) + 1;
    const whileMs = this.#whileOf(count);
    // Deleted first, so that the latest failure is the last in order and is forgotten last.
    this.#failures.delete(key);
    this.#failures.set(key, { error, count, until: this.#now() + whileMs });
    const [oldest] = this.#failures.keys();
    if (this.#failures.size > MOST && oldest !== undefined) this.#failures.delete(oldest);
    return whileMs;
  }

  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** Forgets all whose keys are these. */
  forgetThose(isOne: (key: string) => boolean): void {
    for (const key of this.#failures.keys()) if (isOne(key)) this.#failures.delete(key);
  }

  /** Whether the last load failed, no matter how long ago. */
  has(key: string): boolean {
    return this.#failures.has(key);
  }

  /**
   * Milliseconds for which the failure is still remembered; 0 when a try may be made.
   *
   * @param isLasting whether what failed still goes on. Then another while follows, as long as the last.
   */
  msLeft(key: string, isLasting = false): number {
    const failure = this.#failures.get(key);
    if (failure === undefined) return 0;
    const leftMs = Math.ceil(failure.until - this.#now());
    if (leftMs > 0 || !isLasting) return Math.max(0, leftMs);
    const whileMs = this.#whileOf(failure.count);
    return whileMs - (-leftMs % whileMs);
  }

  /**
   * Returns the failure while it is remembered, with the time until the next try; undefined when a try may be made.
   *
   * @param isLasting as in {@link msLeft}.
   */
  recall(key: string, isLasting = false): InfermuxError | undefined {
    const failure = this.#failures.get(key);
    const retryAfterMs = this.msLeft(key, isLasting);
    if (failure === undefined || retryAfterMs === 0) return undefined;
    const { code, message, cause } = failure.error;
    return new InfermuxError(code, message, { cause, retryable: true, retryAfterMs });
  }

  #whileOf(count: number): number {
    return Math.min(FIRST_MS * 2 ** (count - 1), this.#longestMs);
  }
}
