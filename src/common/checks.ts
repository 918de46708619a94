import { InfermuxError, show } from './errors.js';
import { isPlainObject } from './values/realm.js';

/** Returns what the value should be when it is something else; undefined when the value is right. */
export type Rule = (value: unknown) => string | undefined;

const rule =
  (holds: (value: unknown) => boolean, expectation: string): Rule =>
  (value) =>
    holds(value) ? undefined : expectation;

export const isBoolean = rule((value) => typeof value === 'boolean', 'true or false');
export const isText = rule((value) => typeof value === 'string' && value !== '', 'a non-empty string');
export const isObject = rule(isPlainObject, 'a plain object');

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

/** @throws InfermuxError `INVALID_ARGUMENT` naming path, expectation and value. */
export function check(where: string, value: unknown, isRight: Rule): void {
  const expectation = isRight(value);
  if (expectation !== undefined) throw refusal(where, expectation, value);
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
  const copy = { ...options };
  for (const [key, value] of Object.entries(copy)) {
    const isRight = Object.hasOwn(rules, key) ? rules[key] : undefined;
    if (isRight === undefined) {
      const known = Object.keys(rules).join(', ');
      throw new InfermuxError('INVALID_ARGUMENT', `${where}: unknown key ${show(key)}; expected one of ${known}`);
    }
    const expectation = value === undefined ? undefined : isRight(value);
    if (expectation !== undefined) throw refusal(`${where}.${key}`, expectation, value);
  }
  return copy;
}
