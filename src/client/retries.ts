import { InfermuxError } from '../common/errors.js';
import type { CallTerms } from './transports/transport.js';
import type { Unreachable } from './transports/wire-errors.js';

const FIRST_DELAY_MS = 50;

/** Codes of errors after which another try may succeed, and which say that the caller has had no answer. */
const RETRIED: readonly string[] = ['REPLICA_FAILED', 'ENGINE_CLOSED'];

/**
 * Tries again what has failed because the server could not be reached or could not answer: at most so many times, after
 * pauses that double, with up to half of each by chance, so that clients do not come back together.
 *
 * @param isIdempotent whether a request may run twice. Otherwise it is only tried again if it was never sent.
 * @param random uniform in [0, 1).
 */
export async function withRetries<T>(
  retries: number,
  isIdempotent: boolean,
  { signal, deadline }: CallTerms,
  run: () => Promise<T>,
  random: () => number = Math.random,
): Promise<T> {
  for (let tries = 0; ; tries += 1) {
    try {
      return await run();
    } catch (error) {
      const delayMs = FIRST_DELAY_MS * 2 ** tries * (0.5 + random() / 2);
      const isLate = deadline !== undefined && Date.now() + delayMs >= deadline;
      if (tries >= retries || isLate || !mayTryAgain(error, isIdempotent)) throw error;
      await pause(delayMs, signal);
      if (signal?.aborted === true) throw error;
    }
  }
}

function mayTryAgain(error: unknown, isIdempotent: boolean): boolean {
  if (!(error instanceof InfermuxError) || !RETRIED.includes(error.code)) return false;
  const wasNeverSent = 'wasSent' in error && (error as Unreachable).wasSent === false;
  return isIdempotent || wasNeverSent;
}

function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const ended = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', ended);
      resolve();
    };
    const timer = setTimeout(ended, ms);
    signal?.addEventListener('abort', ended, { once: true });
  });
}
