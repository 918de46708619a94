import type { Clock } from '../../common/clock.js';
import { InfermuxError, show } from '../../common/errors.js';

/** The bound of a load without a setting: a large model on a slow disk does not meet it. */
const LEAST_MS = 120_000;
const BYTES_PER_MS = 5_000;

/** A load that a replica's thread has begun. */
export interface BegunLoad {
  readonly id: string;
  /** Bytes of the model's files. */
  readonly bytes: number;
}

/** Gives each load of a replica a bound. A load blocks its thread, so that only the calling thread can tell. */
export class LoadWatch<R extends object> {
  readonly #timeoutMs: () => number | undefined;
  readonly #clock: Clock;
  readonly #overdue: (replica: R, error: InfermuxError) => void;
  /** Cancels the timer of each replica with a load under way: a thread has one load at a time. */
  readonly #timers = new Map<R, () => void>();

  /**
   * @param timeoutMs the setting in force: -1 for no bound, undefined for one that grows with the model's files.
   * @param overdue is told that a load took too long. The replica must be replaced.
   */
  constructor(timeoutMs: () => number | undefined, clock: Clock, overdue: (replica: R, error: InfermuxError) => void) {
    this.#timeoutMs = timeoutMs;
    this.#clock = clock;
    this.#overdue = overdue;
  }

  begun(replica: R, load: BegunLoad): void {
    this.ended(replica);
    const timeoutMs = this.#timeoutMs() ?? LEAST_MS + Math.ceil(load.bytes / BYTES_PER_MS);
    if (timeoutMs === -1) return;
    let isOver = false;
    const cancel = this.#clock.schedule(() => {
      // The report of its end may have come while the calling thread was busy: it is read first.
      this.#clock.nextTurn(() => {
        if (isOver) return;
        this.#timers.delete(replica);
        this.#overdue(replica, tookTooLong(load, timeoutMs));
      });
    }, timeoutMs);
    this.#timers.set(replica, () => {
      isOver = true;
      cancel();
    });
  }

  /** The load has ended, or the replica takes no more requests. */
  ended(replica: R): void {
    this.#timers.get(replica)?.();
    this.#timers.delete(replica);
  }
}

function tookTooLong({ id }: BegunLoad, timeoutMs: number): InfermuxError {
  const message = `model ${show(id)} did not load within ${timeoutMs} ms, and its replica was replaced; a model that needs longer needs a larger loadTimeoutMs`;
  return new InfermuxError('MODEL_LOAD_FAILED', message, { retryable: true });
}
