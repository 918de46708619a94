import {
  checkOptions,
  isBoolean,
  isMilliseconds,
  isObject,
  isText,
  type Rule,
  satisfies,
} from '../../common/checks.js';
import { InfermuxError, show } from '../../common/errors.js';
import type { Feeds } from '../../tensors/tensor.js';

export interface RunOptions {
  /**
   * Rejects the call with `CANCELLED` when it is aborted. A run under way ends unseen. Many requests may share a signal: its
   * limit of listeners is lifted.
   */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds from now after which the call is rejected with `DEADLINE_EXCEEDED`. -1: no limit. */
  readonly timeoutMs?: number | undefined;
  /** The same as a point in time, in milliseconds as of `Date.now()`. The earlier of the two counts. */
  readonly deadline?: number | undefined;
  /** An integer; higher goes first among the requests of a model. Default 0. */
  readonly priority?: number | undefined;
  /** Names of the outputs to return. Default: all. */
  readonly outputs?: readonly string[] | undefined;
  /**
   * Take the feeds' arrays over instead of copying them: once the request is accepted, they are empty for the caller. Only
   * arrays that cover their whole ArrayBuffer can be; others are copied all the same. Default false.
   */
  readonly transfer?: boolean | undefined;
  /** The deployment that is to answer. Default: what the target says, otherwise the one named `default`. */
  readonly deployment?: string | undefined;
  /**
   * Requests of an endpoint with the same key go to the same target, as long as its weights stay; with the router
   * `consistent-hash`, to the same replica.
   */
  readonly shardKey?: string | undefined;
  /** Names and values for routers: `rankReplicasViaLocality` goes by `device` and `group`. */
  readonly labels?: Readonly<Record<string, string>> | undefined;
}

export interface InferenceRequest<Request = Feeds> extends RunOptions {
  /**
   * An endpoint, a model id, which stands for its latest version, `id@version`, `deployment/model`, or a deployment with a
   * handler.
   */
  readonly target: string;
  /** For a deployment with a handler: what it is given. */
  readonly feeds: Request;
}

const isSignal = satisfies((value) => value instanceof AbortSignal, 'an AbortSignal');

const areNames = satisfies(
  (value) => Array.isArray(value) && value.length > 0 && [...value].every((name) => typeof name === 'string'),
  'a non-empty array of output names',
);

/** A copy, read once; keys that are symbols are nobody's labels. */
function readLabels(where: string, labels: unknown): Readonly<Record<string, string>> {
  const expectation = isObject(labels);
  const entries = expectation === undefined ? Object.entries(labels as object) : [];
  if (expectation === undefined && entries.every(([, label]) => typeof label === 'string')) {
    return Object.freeze(Object.fromEntries(entries));
  }
  throw new InfermuxError('INVALID_ARGUMENT', `${where}.labels must be an object of strings, got ${show(labels)}`);
}

const anything: Rule = () => undefined;

const RULES: Readonly<Record<keyof RunOptions, Rule>> = {
  signal: isSignal,
  timeoutMs: isMilliseconds({ lowest: 0, or: -1 }),
  deadline: satisfies((value) => Number.isFinite(value), 'milliseconds as of Date.now()'),
  priority: satisfies((value) => Number.isSafeInteger(value), 'an integer'),
  outputs: areNames,
  transfer: isBoolean,
  deployment: isText,
  shardKey: isText,
  labels: anything,
};

const NONE: RunOptions = Object.freeze({});

/**
 * The options as they are now: a copy, since the caller may change its own.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming path, expectation and value; unknown keys are refused.
 */
export function readRunOptions(options: RunOptions | undefined): RunOptions {
  if (options === undefined) return NONE;
  return withOwnLabels('runOptions', checkOptions('runOptions', options, RULES));
}

/** The caller may change its own later. */
function withOwnLabels<T extends RunOptions>(where: string, options: T): T {
  return options.labels === undefined ? options : { ...options, labels: readLabels(where, options.labels) };
}

/** The request of `infer`, checked but for its target and feeds. */
export function readInferenceRequest<T extends RunOptions>(request: T): T {
  return withOwnLabels(
    'the request',
    checkOptions('the request', request, { target: anything, feeds: anything, ...RULES }),
  );
}

/**
 * Milliseconds left for a request; undefined when there is no limit.
 *
 * @param defaultTimeoutMs for requests that name no time; -1 for none.
 * @param now `Date.now`.
 */
export function timeLeftMs(options: RunOptions, defaultTimeoutMs: number, now: () => number): number | undefined {
  const { timeoutMs, deadline } = options;
  const limitMs = timeoutMs ?? (deadline === undefined ? defaultTimeoutMs : -1);
  const left = limitMs === -1 ? Number.POSITIVE_INFINITY : limitMs;
  const leftMs = deadline === undefined ? left : Math.min(left, deadline - now());
  return leftMs === Number.POSITIVE_INFINITY ? undefined : leftMs;
}
