import { InfermuxError } from './errors.js';

const FIRST_MS = 1_000;
const LONGEST_MS = 64_000;

/** A handler may be asked for any number of models that are not there. */
const MOST = 10_000;

interface Failure {
  readonly error: InfermuxError;
  readonly count: number;
  readonly until: number;
}

/**
 * Remembers failed loads, so that a broken model costs one load a while and not one per request. The while doubles
 * with every failure in a row, from 1 s to 64 s.
 */
export class FailureMemory {
  readonly #now: () => number;
  readonly #failures = new Map<string, Failure>();

  /** @param now milliseconds from any start. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** @returns milliseconds for which it is remembered. */
  record(key: string, error: InfermuxError): number {
    const count = (this.#failures.get(key)?.count ?? 0) + 1;
    const whileMs = Math.min(FIRST_MS * 2 ** (count - 1), LONGEST_MS);
    // The last to fail is the last to be forgotten.
    this.#failures.delete(key);
    this.#failures.set(key, { error, count, until: this.#now() + whileMs });
    const [oldest] = this.#failures.keys();
    if (this.#failures.size > MOST && oldest !== undefined) this.#failures.delete(oldest);
    return whileMs;
  }

  forget(key: string): void {
    this.#failures.delete(key);
  }

  /** Whether the last load failed, however long ago. */
  has(key: string): boolean {
    return this.#failures.has(key);
  }

  /** The failure that is still remembered, with the time until the next try; undefined when a try may be made. */
  recall(key: string): InfermuxError | undefined {
    const failure = this.#failures.get(key);
    if (failure === undefined) return undefined;
    const retryAfterMs = Math.ceil(failure.until - this.#now());
    if (retryAfterMs <= 0) return undefined;
    const { code, message, cause } = failure.error;
    return new InfermuxError(code, message, { cause, retryable: true, retryAfterMs });
  }
}
