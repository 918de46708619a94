import {
  checkOptions,
  isBoolean,
  isMilliseconds,
  isObject,
  isSignal,
  isText,
  type Rule,
  satisfies,
} from '../../common/checks.js';
import { InfermuxError, show } from '../../common/errors.js';
import type { RunOptions } from '../../contracts/run-options.js';
import { isTraceContext, type TraceContext } from '../../contracts/trace-context.js';
import { areOutputNames } from '../../tensors/check-feeds.js';
import type { Feeds } from '../../tensors/tensor.js';

export interface InferenceRequest<Request = Feeds> extends RunOptions {
  /** An endpoint, a model id (its latest version), `id@version`, `deployment/model`, or a deployment with a handler. */
  readonly target: string;
  /** Every input by name; for a deployment with a handler, the handler's request. */
  readonly feeds: Request;
}

/** A router looks at few. */
const MOST_NAMED = 1_024;

const isHint = (value: unknown) => ['string', 'number', 'boolean'].includes(typeof value);
const isLabel = (value: unknown) => typeof value === 'string';

/** Copies the caller's names and values, reading each once. Symbol keys are ignored. */
function readNamed<T>(
  where: string,
  given: unknown,
  isRight: (value: unknown) => boolean,
  values: string,
): Readonly<Record<string, T>> {
  const expectation = isObject(given);
  const entries = expectation === undefined ? Object.entries(given as object) : [];
  if (entries.length > MOST_NAMED) {
    const message = `${where} must be at most ${MOST_NAMED}, got ${entries.length}`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  if (expectation === undefined && entries.every(([, value]) => isRight(value))) {
    return Object.freeze(Object.fromEntries(entries));
  }
  throw new InfermuxError('INVALID_ARGUMENT', `${where} must be an object of ${values}, got ${show(given)}`);
}

/** Copies a trace context, reading each part once. */
function readTrace(where: string, given: unknown): TraceContext {
  if (isObject(given) === undefined) {
    const { traceparent, tracestate } = given as TraceContext;
    const own = tracestate === undefined ? { traceparent } : { traceparent, tracestate };
    if (isTraceContext(own)) return Object.freeze(own);
  }
  const message = `${where} must be a W3C trace context, { traceparent, tracestate }, got ${show(given)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

const anything: Rule = () => undefined;

const RULES: Readonly<Record<keyof RunOptions, Rule>> = {
  signal: isSignal,
  timeoutMs: isMilliseconds({ lowest: 0, or: -1 }),
  deadline: satisfies((value) => Number.isFinite(value), 'milliseconds as of Date.now()'),
  priority: satisfies((value) => Number.isSafeInteger(value), 'an integer'),
  outputs: areOutputNames,
  transfer: isBoolean,
  deployment: isText,
  shardKey: isText,
  labels: anything,
  hints: anything,
  waitForCapacityMs: isMilliseconds({ lowest: 0 }),
  requestId: isText,
  traceContext: anything,
  method: isText,
};

/** Names of the options of a request. */
export const RUN_OPTION_NAMES: readonly string[] = Object.keys(RULES);

const REQUEST_RULES = { target: anything, feeds: anything, ...RULES };

const NONE: RunOptions = Object.freeze({});

/**
 * Copies and checks the options as they are now: the caller may change its own later.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming path, expectation and value; unknown keys are refused.
 */
export function readRunOptions(options: RunOptions | undefined): RunOptions {
  if (options === undefined) return NONE;
  return withOwnNamed('runOptions', checkOptions('runOptions', options, RULES));
}

/** Copies what the caller may change later. */
function withOwnNamed<T extends RunOptions>(where: string, options: T): T {
  const { labels, hints, traceContext } = options;
  if (labels === undefined && hints === undefined && traceContext === undefined) return options;
  return {
    ...options,
    labels: labels === undefined ? labels : readNamed<string>(`${where}.labels`, labels, isLabel, 'strings'),
    hints: hints === undefined ? hints : readNamed(`${where}.hints`, hints, isHint, 'strings, numbers and booleans'),
    traceContext: traceContext === undefined ? traceContext : readTrace(`${where}.traceContext`, traceContext),
  };
}

/** Copies and checks a request of `infer`, except for its target and feeds. */
export function readInferenceRequest<T extends RunOptions>(request: T): T {
  return withOwnNamed('the request', checkOptions('the request', request, REQUEST_RULES));
}

/**
 * Returns the milliseconds left for a request; undefined when there is no limit.
 *
 * @param defaultTimeoutMs for requests that name neither time; -1 for no limit.
 * @param now `Date.now`.
 */
export function timeLeftMs(options: RunOptions, defaultTimeoutMs: number, now: () => number): number | undefined {
  const { timeoutMs, deadline } = options;
  const limitMs = timeoutMs ?? (deadline === undefined ? defaultTimeoutMs : -1);
  const left = limitMs === -1 ? Number.POSITIVE_INFINITY : limitMs;
  const leftMs = deadline === undefined ? left : Math.min(left, deadline - now());
  return leftMs === Number.POSITIVE_INFINITY ? undefined : leftMs;
}
