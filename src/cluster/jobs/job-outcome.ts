import type { ErrorCode, InfermuxError } from '../../common/errors.js';

/** What becomes of a job that has failed. */
export type JobFate =
  | { readonly kind: 'again'; readonly afterMs: number }
  | { readonly kind: 'elsewhere'; readonly afterMs: number }
  | { readonly kind: 'dead'; readonly reason: string };

/** Workers that a job may end which nothing else was under way in: then it is dead. */
export const MOST_ENDED = 3;
/** Tries of a job by one worker. */
export const MOST_TRIES = 8;
/**
 * Pauses before a job is given out again that only another worker, or this one in a while, may be able to do: long enough together
 * for workers to be replaced one after the other.
 */
export const ELSEWHERE_MS: readonly number[] = [1_000, 3_000, 10_000, 30_000, 60_000];
/**
 * From this delivery on, those not counted after which it was given back, a job is done alone: workers have died with it, by its
 * fault or by that of another one beside it.
 */
export const ALONE_FROM = 3;
const FIRST_DELAY_MS = 500;
const MOST_DELAY_MS = 30_000;

/** Faults that may be the worker's: another one may have the model, its files, or what this machine lacks. */
const OF_THE_WORKER: ReadonlySet<ErrorCode> = new Set([
  ...(['MODEL_NOT_FOUND', 'MODEL_LOAD_FAILED', 'FAILED_PRECONDITION', 'INTERNAL'] as const),
]);

/**
 * Decides about a job that has failed: what another try may mend is tried again, after pauses that double; what is the worker's
 * fault is given back, more often where the fault may pass; everything else is dead.
 *
 * @param tries by this worker so far.
 * @param givenBack how often workers have given it back.
 */
export function fateOf(error: InfermuxError, tries: number, givenBack: number): JobFate {
  if (OF_THE_WORKER.has(error.code)) {
    const most = error.retryable ? MOST_TRIES : ELSEWHERE_MS.length;
    const pause = Math.max(ELSEWHERE_MS[givenBack] ?? MOST_DELAY_MS, error.retryAfterMs ?? 0);
    if (givenBack < most) return { kind: 'elsewhere', afterMs: pause };
    return { kind: 'dead', reason: `${error.message} (given out ${givenBack + 1} times)` };
  }
  if (!error.retryable) return { kind: 'dead', reason: error.message };
  if (tries >= MOST_TRIES) return { kind: 'dead', reason: `${error.message} (tried ${tries} times)` };
  return { kind: 'again', afterMs: Math.max(pauseAfter(tries), error.retryAfterMs ?? 0) };
}

const pauseAfter = (count: number) => Math.min(MOST_DELAY_MS, FIRST_DELAY_MS * 2 ** (count - 1));
