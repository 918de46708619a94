/** Time as the engine sees it. Injected, so that tests and simulations move it by hand. */
export interface Clock {
  /** Milliseconds from an arbitrary start; never runs backwards. */
  now(): number;
  /**
   * Calls back once after `delayMs`; the returned function takes it back. Does not keep the process up by itself: what
   * must happen is held up by a {@link KeepAlive}.
   */
  schedule(callback: () => void, delayMs: number): () => void;
}

/** A longer delay would make Node's timers fire at once; a deadline beyond 24.8 days acts by then. */
const LONGEST_DELAY_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  schedule: (callback, delayMs) => {
    const timer = setTimeout(callback, Math.min(delayMs, LONGEST_DELAY_MS)).unref();
    return () => clearTimeout(timer);
  },
};

/** Keeps the process up as long as somebody holds it: worker threads and timers alone do not. */
export class KeepAlive {
  readonly #timer = setInterval(() => undefined, 2 ** 30).unref();
  #holders = 0;

  hold(): void {
    this.#holders += 1;
    this.#timer.ref();
  }

  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#timer.unref();
  }

  /** Holds it as long as the work goes on. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.hold();
    try {
      return await work();
    } finally {
      this.release();
    }
  }
}
