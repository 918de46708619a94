import { checkOptions, isBoolean, isInteger, isMilliseconds, isText, type Rule, satisfies } from './check.js';
import { InfermuxError } from './errors.js';

export interface RunOptions {
  /** Rejects the call with `CANCELLED` when it is aborted. A run under way ends unseen. */
  readonly signal?: AbortSignal;
  /** Milliseconds from now after which the call is rejected with `DEADLINE_EXCEEDED`. */
  readonly timeoutMs?: number;
  /** The same as a point in time, in milliseconds as of `Date.now()`. The earlier of the two counts. */
  readonly deadline?: number;
  /** An integer; higher goes first among the requests of a model. Default 0. */
  readonly priority?: number;
  /** Names of the outputs to return. Default: all. */
  readonly outputs?: readonly string[];
  /** Requests with the same key belong together; for routers that look at it. */
  readonly shardKey?: string;
  /** Default `default`. */
  readonly deployment?: string;
  /** Take the feeds' arrays over instead of copying them: they are empty for the caller afterwards. Default false. */
  readonly transfer?: boolean;
}

const isSignal = satisfies(
  (value) =>
    value !== null &&
    typeof value === 'object' &&
    typeof (value as AbortSignal).aborted === 'boolean' &&
    typeof (value as AbortSignal).addEventListener === 'function',
  'an AbortSignal',
);

const areNames = satisfies(
  (value) => Array.isArray(value) && value.length > 0 && value.every((name) => typeof name === 'string'),
  'a non-empty array of output names',
);

const RULES: Readonly<Record<keyof RunOptions, Rule>> = {
  signal: isSignal,
  timeoutMs: isMilliseconds({ lowest: 0 }),
  deadline: satisfies((value) => Number.isFinite(value), 'milliseconds as of Date.now()'),
  priority: isInteger({ lowest: Number.MIN_SAFE_INTEGER }),
  outputs: areNames,
  shardKey: isText,
  deployment: isText,
  transfer: isBoolean,
};

/** @throws InfermuxError `INVALID_ARGUMENT` naming path, expectation and value; unknown keys are refused. */
export function checkRunOptions(options: RunOptions): void {
  checkOptions('runOptions', options, RULES);
  if (options.deployment !== undefined && options.deployment !== 'default') {
    throw new InfermuxError('FAILED_PRECONDITION', `no deployment "${options.deployment}"; there is: default`);
  }
}

/**
 * Milliseconds left for a request; undefined when there is no limit.
 *
 * @param defaultTimeoutMs for requests that name no time; -1 for none.
 * @param nowMs `Date.now()`.
 */
export function timeLeftMs(options: RunOptions, defaultTimeoutMs: number, nowMs: number): number | undefined {
  const { timeoutMs, deadline } = options;
  if (timeoutMs === undefined && deadline === undefined) return defaultTimeoutMs === -1 ? undefined : defaultTimeoutMs;
  return Math.min(timeoutMs ?? Number.POSITIVE_INFINITY, (deadline ?? Number.POSITIVE_INFINITY) - nowMs);
}
