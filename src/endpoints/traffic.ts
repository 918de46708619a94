import { check, checkOptions, isObject, isText } from '../common/checks.js';
import { InfermuxError, show } from '../common/errors.js';

export interface EndpointOptions {
  /**
   * Share of the requests for each target, from 0 to 1; the shares add up to 1, give or take a millionth. A target with
   * share 0 is kept, and gets no requests. A target is a model id, `id@version`, a deployment with a handler, or
   * `deployment/model`.
   */
  readonly traffic: Readonly<Record<string, number>>;
  /**
   * Share of the requests, from 0 to 1, that a target gets a copy of; the answers to copies are discarded. Default: no
   * copies.
   */
  readonly shadow?: Readonly<Record<string, number>> | undefined;
}

/** The traffic of one endpoint, with every default filled in. */
export interface Traffic {
  readonly traffic: Readonly<Record<string, number>>;
  readonly shadow: Readonly<Record<string, number>>;
}

/** Largest accepted difference between the sum of the shares and 1. */
const TOLERANCE = 1e-6;
/** Each request looks at them in turn. */
const MOST_TARGETS = 1_024;

/**
 * Checks the options.
 *
 * @returns a copy of them, with the defaults filled in.
 * @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value.
 */
export function readTraffic(where: string, options: EndpointOptions): Traffic {
  const { traffic, shadow = {} } = checkOptions(where, options, { traffic: isObject, shadow: isObject });
  if (traffic === undefined) throw invalid(`${where}.traffic must be named: shares by target`);
  checkShares(`${where}.traffic`, traffic);
  checkShares(`${where}.shadow`, shadow);
  if (Object.keys(traffic).length === 0)
    throw invalid(`${where}.traffic must name at least one target, and names none`);
  const sum = Object.values(traffic).reduce((total, weight) => total + weight, 0);
  if (Math.abs(sum - 1) > TOLERANCE) {
    throw invalid(`${where}.traffic must add up to 1, and ${Object.values(traffic).join(' + ')} is ${rounded(sum)}`);
  }
  return { traffic: { ...traffic }, shadow: { ...shadow } };
}

function checkShares(where: string, shares: Readonly<Record<string, unknown>>): void {
  const entries = Object.entries(shares);
  if (entries.length > MOST_TARGETS) {
    throw invalid(`${where} must have at most ${MOST_TARGETS} targets, got ${entries.length}`);
  }
  for (const [target, share] of entries) {
    check(`a target of ${where}`, target, isText);
    if (typeof share === 'number' && share >= 0 && share <= 1) continue;
    throw invalid(`${where}[${show(target)}] must be a number from 0 to 1, got ${show(share)}`);
  }
}

/**
 * Chooses the target whose part of the interval [0, 1) contains the point; each weight is the length of a part, in
 * order.
 *
 * @param point in [0, 1).
 */
export function chooseTarget(traffic: Readonly<Record<string, number>>, point: number): string {
  let end = 0;
  let last = '';
  for (const target in traffic) {
    const share = traffic[target] ?? 0;
    end += share;
    if (share > 0) last = target;
    if (point < end) return target;
  }
  // The sum may be a little below 1.
  return last;
}

/** Chooses the targets that get a copy, each independently by its own point. */
export function chooseShadows(
  shadow: Readonly<Record<string, number>>,
  pointFor: (target: string) => number,
): string[] {
  return Object.keys(shadow).filter((target) => pointFor(target) < (shadow[target] ?? 0));
}

/** Without the last digits, which come from adding. */
function rounded(sum: number): number {
  return Number(sum.toPrecision(9));
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
