import type { InfermuxError } from '../../common/errors.js';

/** What becomes of a job that has failed. */
export type JobFate =
  | { readonly kind: 'again'; readonly afterMs: number }
  | { readonly kind: 'dead'; readonly reason: string };

/** Workers that a job may end which nothing else was under way in: then it is dead. */
export const MOST_ENDED = 3;
/** Tries of a job by one worker. */
export const MOST_TRIES = 8;
/** From this delivery on a job is done alone: workers have died with it, by its fault or by that of another one beside it. */
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
