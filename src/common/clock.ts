/** Time as the engine sees it. Injected, so that tests and simulations move it by hand. */
export interface Clock {
  /** Milliseconds from an arbitrary start; never runs backwards. */
  now(): number;
  /**
   * Calls back once after `delayMs`; the returned function takes it back. Does not keep the process up by itself: what
   * must happen is held up by a `KeepAlive`.
   */
  schedule(callback: () => void, delayMs: number): () => void;
  /** Calls back once, when the code that runs now is done, and all that waits for promises which it settled. */
  defer(callback: () => void): void;
  /** Calls back once in the next turn of the event loop, when whatever else is due there had its chance. */
  nextTurn(callback: () => void): void;
}

/** A longer delay would make Node's timers fire at once; a deadline beyond 24.8 days acts by then. */
const LONGEST_DELAY_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: () => performance.now(),
  schedule: (callback, delayMs) => {
    const timer = setTimeout(callback, Math.min(delayMs, LONGEST_DELAY_MS)).unref();
    return () => clearTimeout(timer);
  },
  defer: (callback) => process.nextTick(callback),
  nextTurn: (callback) => setImmediate(callback),
};

/** Whether the work ended within so many milliseconds; it goes on if it did not. */
export async function settlesWithin(clock: Clock, work: Promise<unknown>, milliseconds: number): Promise<boolean> {
  let cancel: () => void = () => undefined;
  const late = new Promise<false>((resolve) => {
    cancel = clock.schedule(() => resolve(false), milliseconds);
  });
  try {
    return await Promise.race([work.then(() => true), late]);
  } finally {
    cancel();
  }
}
