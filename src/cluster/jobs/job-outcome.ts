import type { InfermuxError } from '../../common/errors.js';

/** What becomes of a job that has failed. */
export type JobFate =
  | { readonly kind: 'again'; readonly afterMs: number }
  | { readonly kind: 'dead'; readonly reason: string };

/** Deliveries of a job: each worker that died with it has had one, whether the job was at fault or not. */
export const MOST_DELIVERIES = 8;
/** Tries of a job by one worker. */
export const MOST_TRIES = 8;
/** From this delivery on a job is done alone, so that if it ends its worker, no other job is under suspicion with it. */
export const ALONE_FROM = 3;
const FIRST_DELAY_MS = 500;
const MOST_DELAY_MS = 30_000;

/**
 * Decides about a job that has failed: what another try may mend is tried again, after pauses that double; what it cannot,
 * is dead.
 *
 * @param tries so far.
 */
export function fateOf(error: InfermuxError, tries: number): JobFate {
  if (!error.retryable) return { kind: 'dead', reason: error.message };
  if (tries >= MOST_TRIES) return { kind: 'dead', reason: `${error.message} (tried ${tries} times)` };
  const afterMs = Math.min(MOST_DELAY_MS, FIRST_DELAY_MS * 2 ** (tries - 1));
  return { kind: 'again', afterMs: Math.max(afterMs, error.retryAfterMs ?? 0) };
}

/** Whether a job has been delivered so often that it is taken for what ends the workers. */
export function isPoison(delivery: number): boolean {
  return delivery > MOST_DELIVERIES;
}
