import type { Clock } from '../common/clock.js';

/** Wakes a replica's thread when a session may have been unused for the idle time-out. The thread has no timers. */
export class SessionExpiry {
  readonly #clock: Clock;
  readonly #expire: () => Promise<number | undefined>;
  #cancel: (() => void) | undefined;

  /** @param expire releases expired sessions; returns the milliseconds until the next may expire. Must not reject. */
  constructor(clock: Clock, expire: () => Promise<number | undefined>) {
    this.#clock = clock;
    this.#expire = expire;
  }

  /** Wakes the thread after the delay, unless a wake-up is already scheduled. -1 or undefined: never. */
  schedule(delayMs: number | undefined): void {
    if (delayMs === undefined || delayMs === -1 || this.#cancel !== undefined) return;
    this.#cancel = this.#clock.schedule(() => {
      this.#cancel = undefined;
      void this.#expire().then((nextInMs) => this.schedule(nextInMs));
    }, delayMs);
  }

  stop(): void {
    this.#cancel?.();
  }
}
