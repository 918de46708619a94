import { performance } from 'node:perf_hooks';
import { clearTimeout, setImmediate, setTimeout } from 'node:timers';

/** Time as the engine sees it. It is injected, so that tests and simulations move it by hand. */
export interface Clock {
  /** Milliseconds from an arbitrary start; never runs backwards. */
  now(): number;
  /**
   * Calls back once after `delayMs`; the returned function cancels that. A timer does not keep the process up: a
   * `KeepAlive` does, while there is work.
   */
  schedule(callback: () => void, delayMs: number): () => void;
  /** Calls back once, after the running code and after the callbacks of promises that it settled. */
  defer(callback: () => void): void;
  /** Calls back once in the next turn of the event loop, after other events had their chance. */
  nextTurn(callback: () => void): void;
}

/** With a longer delay Node's timers fire at once. A later deadline acts after this time: 24.8 days. */
const LONGEST_DELAY_MS = 2 ** 31 - 1;

/** Node's own timers: the globals of a test runner's environment may be fakes, or a browser's. */
export const systemClock: Clock = {
  now: () => performance.now(),
  schedule: (callback, delayMs) => {
    const timer = setTimeout(callback, Math.min(delayMs, LONGEST_DELAY_MS)).unref();
    return () => clearTimeout(timer);
  },
  defer: (callback) => process.nextTick(callback),
  nextTurn: (callback) => setImmediate(callback),
};

/** Milliseconds of an option, of which -1 says that there is no limit. */
export function unlimited(milliseconds: number): number {
  return milliseconds === -1 ? Number.POSITIVE_INFINITY : milliseconds;
}

/** Resolves with whether the work ended within this time. Otherwise the work goes on. */
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
