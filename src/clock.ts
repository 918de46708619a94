/** Time as the engine sees it. Injected, so that tests and simulations move it by hand. */
export interface Clock {
  /** Milliseconds from an arbitrary start; never runs backwards. */
  now(): number;
  /**
   * Calls back once after `delayMs`; the returned function takes it back. Does not keep the process up by itself: what
   * must happen is held up by a `KeepAlive`.
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
