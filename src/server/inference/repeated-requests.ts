import { InfermuxError } from '../../index.js';

/** How long an answer is kept. */
const KEPT_MS = 60_000;
const MOST_KEPT = 4_096;
const MOST_BYTES = 64 * 2 ** 20;

interface Kept {
  /** What was asked. */
  readonly digest: string;
  readonly answer: Promise<unknown>;
  /** Undefined while it is under way. */
  expiresAt: number | undefined;
  bytes: number;
}

/**
 * Runs a request once, however often its client sends it: a further try with the same key gets the answer of the first,
 * while that is under way and for a minute after it. Of failures only those are kept that another try would not mend.
 */
export class RepeatedRequests {
  readonly #now: () => number;
  /** In the order in which they came. */
  readonly #kept = new Map<string, Kept>();
  #bytes = 0;

  /** @param now in milliseconds. */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /**
   * @param key of the client, for this target.
   * @param digest of what is asked.
   * @param run must not depend on who waits: its first client may go away.
   * @param bytesOf tells what an answer takes in memory.
   * @param isFinal whether a failure would come again.
   * @throws InfermuxError `INVALID_ARGUMENT` for a key that another request has.
   */
  once<T>(
    key: string,
    digest: string,
    run: () => Promise<T>,
    bytesOf: (answer: T) => number,
    isFinal: (cause: unknown) => boolean,
  ): Promise<T> {
    this.#forget();
    const known = this.#kept.get(key);
    if (known !== undefined && known.digest !== digest) throw usedTwice();
    if (known !== undefined) return known.answer as Promise<T>;
    const answer = run();
    const kept: Kept = { digest, answer, expiresAt: undefined, bytes: 0 };
    this.#kept.set(key, kept);
    answer.then(
      (value) => this.#keep(key, kept, bytesOf(value)),
      (cause) => {
        if (isFinal(cause)) this.#keep(key, kept, 0);
        else this.#drop(key, kept);
      },
    );
    return answer;
  }

  #keep(key: string, kept: Kept, bytes: number): void {
    kept.expiresAt = this.#now() + KEPT_MS;
    kept.bytes = bytes;
    this.#bytes += bytes;
    // Those under way stay where they were: the map is in the order of the ends.
    this.#kept.delete(key);
    this.#kept.set(key, kept);
    this.#forget();
  }

  /** Drops what is too old, and the oldest while there is too much. */
  #forget(): void {
    const now = this.#now();
    for (const [key, kept] of this.#kept) {
      if (kept.expiresAt === undefined) continue;
      const isTooMuch = this.#kept.size > MOST_KEPT || this.#bytes > MOST_BYTES;
      if (!isTooMuch && kept.expiresAt > now) return;
      this.#drop(key, kept);
    }
  }

  #drop(key: string, kept: Kept): void {
    this.#bytes -= kept.bytes;
    this.#kept.delete(key);
  }
}

function usedTwice(): InfermuxError {
  const message =
    'Idempotency-Key was used for another request: use a new key for each request, and the same key when you send it again';
  return new InfermuxError('INVALID_ARGUMENT', message);
}
