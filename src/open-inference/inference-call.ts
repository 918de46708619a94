import { InfermuxError, show } from '../common/errors.js';
import type { RunOptions } from '../contracts/run-options.js';
import type { Feeds } from '../tensors/tensor.js';
import { DETAILS_PARAMETER } from './own-keys.js';

/** Parameters of a request, an input or an output: by name. */
export type Parameters = Readonly<Record<string, unknown>>;

/** An output that a request asks for. */
export interface RequestedOutput {
  readonly name: string;
  /** Whether its data are wanted in binary form; undefined when the request does not say. */
  readonly isBinary: boolean | undefined;
  /** Names of how many classes are wanted in place of the data; undefined for the data. */
  readonly classes: number | undefined;
}

/** One inference request, whatever protocol it came by. */
export interface InferenceCall {
  readonly target: string;
  /** The caller's name for the request, which the answer repeats. */
  readonly id: string | undefined;
  readonly feeds: Feeds;
  readonly options: RunOptions;
  /** Undefined: all. */
  readonly outputs: readonly RequestedOutput[] | undefined;
  /** Whether all outputs that do not say are wanted in binary form. */
  readonly isBinary: boolean;
  /** Whether the answer is to say which replica it is from, and what took how long. */
  readonly hasDetails: boolean;
}

/** Above the priority of requests that name none. */
export const HIGHEST_PRIORITY = 1_000_000;
const MOST_HINTS = 1_024;
/** Parameters that the protocol gives a meaning, so that they are no hints. */
const RESERVED = new Set([DETAILS_PARAMETER, 'sequence_start', 'sequence_end', 'headers', 'method']);

/**
 * Reads the parameters of a request that the engine has a counterpart for. `timeout` is in microseconds. Of `priority` 1
 * is the highest, and 0 is the default, which is the lowest here. `sequence_id` is the shard key. `method` names a function
 * of a handler. Texts, numbers and booleans of other names are hints for routers and handlers; the protocol says that
 * unknown parameters are ignored.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a value of the wrong form.
 */
export function readRunParameters(parameters: Parameters): RunOptions {
  const options: { -readonly [K in keyof RunOptions]: RunOptions[K] } = {};
  const hints = new Hints();
  for (const name in parameters) {
    if (!Object.hasOwn(parameters, name)) continue;
    const value = parameters[name];
    if (name === 'priority') options.priority = readPriority(value);
    else if (name === 'timeout') options.timeoutMs = readTimeout(value);
    else if (name === 'sequence_id') options.shardKey = readKey(value);
    else if (name === 'method' && typeof value === 'string' && value !== '') options.method = value;
    else if (!isReserved(name)) hints.add(name, value);
  }
  if (hints.own !== undefined) options.hints = hints.own;
  return options;
}

function readPriority(given: unknown): number {
  const priority = integerOf('priority', given);
  return priority === 0 ? 0 : HIGHEST_PRIORITY - Math.min(priority, HIGHEST_PRIORITY) + 1;
}

function readTimeout(given: unknown): number | undefined {
  const microseconds = integerOf('timeout', given);
  // 0 stands for none. A timer of Node takes no more than 24 days.
  return microseconds === 0 ? undefined : Math.min(microseconds / 1_000, 2 ** 31 - 1);
}

function integerOf(name: string, given: unknown): number {
  const value = typeof given === 'bigint' ? Number(given) : given;
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) return value;
  throw new InfermuxError('INVALID_ARGUMENT', `parameters.${name} must be an integer from 0 on, got ${show(given)}`);
}

function readKey(given: unknown): string | undefined {
  // These stand for no sequence.
  if (given === 0 || given === '') return undefined;
  if (typeof given === 'string' || typeof given === 'bigint' || Number.isSafeInteger(given)) return String(given);
  throw new InfermuxError(
    'INVALID_ARGUMENT',
    `parameters.sequence_id must be a string or an integer that JSON keeps, got ${show(given)}`,
  );
}

function isReserved(name: string): boolean {
  return RESERVED.has(name) || name.startsWith('binary_data');
}

/** The first ones of a request. Most have none. */
class Hints {
  own: Record<string, string | number | boolean> | undefined;
  #count = 0;

  add(name: string, given: unknown): void {
    const value = typeof given === 'bigint' ? String(given) : given;
    if (typeof value !== 'string' && typeof value !== 'number' && typeof value !== 'boolean') return;
    if (this.#count >= MOST_HINTS) return;
    this.#count += 1;
    this.own ??= Object.create(null) as Record<string, string | number | boolean>;
    this.own[name] = value;
  }
}
