import { InfermuxError, show } from './errors.js';
import { isAbortSignal, isPlainObject } from './values/realm.js';

/** A check of one value. */
export interface Rule {
  /** Returns what the value should be when it is something else; undefined when the value is right. */
  (value: unknown): string | undefined;
  /** Whether the value may be a list: then the rule is given a copy of it, by {@link ownList}. */
  readonly isForLists?: boolean;
}

const rule =
  (holds: (value: unknown) => boolean, expectation: string): Rule =>
  (value) =>
    holds(value) ? undefined : expectation;

export const isBoolean = rule((value) => typeof value === 'boolean', 'true or false');
/** Most characters of a name, a key or another text that the engine keeps and compares. */
const MOST_CHARACTERS = 65_536;

export const isText: Rule = (value) => {
  if (typeof value !== 'string' || value === '') return 'a non-empty string';
  return value.length > MOST_CHARACTERS ? `a string of at most ${MOST_CHARACTERS} characters` : undefined;
};
export const isFunction = rule((value) => typeof value === 'function', 'a function');
export const isObject = rule(isPlainObject, 'a plain object');
export const isSignal = rule(isAbortSignal, 'an AbortSignal');

/** An integer from `lowest` up to `highest`, or exactly `or`. */
export function isInteger({ lowest, highest, or }: { lowest: number; highest?: number; or?: number }): Rule {
  const upTo = highest ?? Number.MAX_SAFE_INTEGER;
  const holds = (value: unknown) =>
    value === or || (Number.isSafeInteger(value) && (value as number) >= lowest && (value as number) <= upTo);
  const range = highest === undefined ? `of at least ${lowest}` : `from ${lowest} to ${highest}`;
  return rule(
    (value) => value !== undefined && holds(value),
    `an integer ${range}${or === undefined ? '' : `, or ${or}`}`,
  );
}

/** Longest delay of a timer, in milliseconds: 24.8 days. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Milliseconds, whole or not, from `lowest` to 24.8 days, or exactly `or`. */
export function isMilliseconds({ lowest, or }: { lowest: number; or?: number }): Rule {
  const holds = (value: unknown) =>
    typeof value === 'number' && (value === or || (value >= lowest && value <= LONGEST_TIMER_MS));
  return rule(holds, `milliseconds from ${lowest} to ${LONGEST_TIMER_MS}${or === undefined ? '' : `, or ${or}`}`);
}

export function isOneOf(values: readonly string[]): Rule {
  return rule((value) => values.includes(value as string), `one of ${values.map(show).join(', ')}`);
}

/** An object with methods of these names. */
export function hasMethods(what: string, names: readonly string[]): Rule {
  const holds = (value: unknown) =>
    value !== null &&
    typeof value === 'object' &&
    names.every((name) => typeof (value as Record<string, unknown>)[name] === 'function');
  return rule(holds, `${what} (an object with ${names.join(', ')})`);
}

export function satisfies(holds: (value: unknown) => boolean, expectation: string): Rule {
  return rule(holds, expectation);
}

/** Most items of a caller's list: names of outputs, devices, versions and the like. */
const MOST_ITEMS = 1_024;

/** A list, not empty, whose items are all right. */
export function isListOf(isItem: (item: unknown) => boolean, expectation: string): Rule {
  return forLists((value) => Array.isArray(value) && value.length > 0 && value.every(isItem), expectation);
}

/** A rule whose values may be lists. */
export function forLists(holds: (value: unknown) => boolean, expectation: string): Rule {
  return Object.assign(rule(holds, expectation), { isForLists: true });
}

/**
 * Copies a caller's list. A list may be sparse, endless to iterate or a proxy, and may change: its length and each item
 * are read once. A hole becomes undefined.
 *
 * @param where names the list in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` for a list that is longer than `most`, which is not walked then.
 */
export function ownList(where: string, list: readonly unknown[], most: number = MOST_ITEMS): unknown[] {
  const length: unknown = list.length;
  if (!isLength(length, most)) {
    const message = `${where} must have at most ${most} items, got a list of length ${show(length)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const own: unknown[] = [];
  for (let index = 0; index < length; index += 1) own.push(list[index]);
  return own;
}

/** Whether the value is a length, up to `most`: the length of a proxy may be anything. */
export function isLength(value: unknown, most: number): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0 && (value as number) <= most;
}

/**
 * Returns the value; of a list a copy, as {@link ownList} makes it.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value.
 */
export function check<T>(where: string, value: T, isRight: Rule): T {
  const own = isRight.isForLists === true && Array.isArray(value) ? (ownList(where, value) as T) : value;
  const expectation = isRight(own);
  if (expectation !== undefined) throw refusal(where, expectation, own);
  return own;
}

function refusal(where: string, expectation: string, value: unknown): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', `${where} must be ${expectation}, got ${show(value)}`);
}

/**
 * Checks every key of a plain options object by its rule; a key that is undefined counts as absent.
 *
 * @param where names the object in messages.
 * @returns a copy.
 * @throws InfermuxError `INVALID_ARGUMENT` naming path, expectation and value; also for a key without a rule.
 */
export function checkOptions<T extends object>(where: string, options: T, rules: Readonly<Record<string, Rule>>): T {
  check(where, options, isObject);
  // Each value is read once, so that the checked value is used, whatever a getter returns next time.
  const copy = { ...options } as Record<string, unknown>;
  for (const key of Object.keys(copy)) {
    const isRight = Object.hasOwn(rules, key) ? rules[key] : undefined;
    if (isRight === undefined) {
      const known = Object.keys(rules).join(', ');
      throw new InfermuxError('INVALID_ARGUMENT', `${where}: unknown key ${show(key)}; expected one of ${known}`);
    }
    const value = copy[key];
    if (value !== undefined) copy[key] = check(`${where}.${key}`, value, isRight);
  }
  return copy as T;
}
