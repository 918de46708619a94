import type { Clock } from '../common/clock.js';

/** Wakes a replica's thread when its next session may have been unused for the idle time-out. The thread has no timers. */
export class SessionExpiry {
  readonly #clock: Clock;
  readonly #expire: () => Promise<number | undefined>;
  #cancel: (() => void) | undefined;

  /** @param expire releases what has expired; gives the milliseconds until the next session may. It must not reject. */
  constructor(clock: Clock, expire: () => Promise<number | undefined>) {
    this.#clock = clock;
    this.#expire = expire;
  }

  /** Wakes it after the delay, unless that is to happen anyway. -1 or undefined: not at all. */
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
