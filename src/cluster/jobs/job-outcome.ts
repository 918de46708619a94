import type { InfermuxError } from '../../common/errors.js';

/** What becomes of a job that has failed. */
export type JobFate =
  | { readonly kind: 'again'; readonly afterMs: number }
  | { readonly kind: 'dead'; readonly reason: string };

/** Deliveries of a job. A worker that dies has had one, whether the job is at fault or not. */
export const MOST_DELIVERIES = 8;
const FIRST_DELAY_MS = 500;
const MOST_DELAY_MS = 30_000;

/**
 * Decides about a job that has failed: what another try may mend is tried again, after pauses that double; what it cannot,
 * is dead.
 *
 * @param delivery which one it is, from 1 on.
 */
export function fateOf(error: InfermuxError, delivery: number): JobFate {
  if (!error.retryable) return { kind: 'dead', reason: error.message };
  if (delivery >= MOST_DELIVERIES) return { kind: 'dead', reason: `${error.message} (tried ${delivery} times)` };
  const afterMs = Math.min(MOST_DELAY_MS, FIRST_DELAY_MS * 2 ** (delivery - 1));
  return { kind: 'again', afterMs: Math.max(afterMs, error.retryAfterMs ?? 0) };
}

/** Whether a job has been delivered so often that it is taken for what ends the workers. */
export function isPoison(delivery: number): boolean {
  return delivery > MOST_DELIVERIES;
}
