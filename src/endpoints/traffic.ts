import { checkOptions, isObject } from '../common/checks.js';
import { InfermuxError, show } from '../common/errors.js';

export interface EndpointOptions {
  /**
   * Shares of the requests by target, which add up to 1. A target is a model id, `id@version`, a deployment with a handler, or
   * `deployment/model`.
   */
  readonly traffic: Readonly<Record<string, number>>;
  /** Share of the requests, above 0 to 1, of which each of these targets gets a copy whose answer is dropped. Default: none. */
  readonly shadow?: Readonly<Record<string, number>> | undefined;
}

/** As it is kept. */
export interface Traffic {
  readonly traffic: Readonly<Record<string, number>>;
  readonly shadow: Readonly<Record<string, number>>;
}

/** The sum of weights may be off by so much. */
const TOLERANCE = 1e-6;

/**
 * A copy.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming path, expectation and value.
 */
export function readTraffic(where: string, options: EndpointOptions): Traffic {
  const { traffic, shadow = {} } = checkOptions(where, options, { traffic: isObject, shadow: isObject });
  if (traffic === undefined) throw invalid(`${where}.traffic must be named: shares by target`);
  checkShares(`${where}.traffic`, traffic);
  checkShares(`${where}.shadow`, shadow);
  if (Object.keys(traffic).length === 0) throw invalid(`${where}.traffic must name a target at least, and names none`);
  const sum = Object.values(traffic).reduce((total, weight) => total + weight, 0);
  if (Math.abs(sum - 1) > TOLERANCE) {
    throw invalid(`${where}.traffic must add up to 1, and ${Object.values(traffic).join(' + ')} is ${sum}`);
  }
  return { traffic: { ...traffic }, shadow: { ...shadow } };
}

function checkShares(where: string, shares: Readonly<Record<string, unknown>>): void {
  for (const [target, share] of Object.entries(shares)) {
    if (typeof share === 'number' && share > 0 && share <= 1) continue;
    throw invalid(`${where}[${show(target)}] must be a number above 0, to 1, got ${show(share)}`);
  }
}

/**
 * The target whose part of the way from 0 to 1 the point is on; the parts are as long as the weights and in their order.
 *
 * @param point from 0 to below 1.
 */
export function chooseTarget(traffic: Readonly<Record<string, number>>, point: number): string {
  let end = 0;
  let last = '';
  for (const target in traffic) {
    end += traffic[target] ?? 0;
    last = target;
    if (point < end) return target;
  }
  // The sum may be off by a little.
  return last;
}

/** Targets that get a copy; each draws for itself. */
export function chooseShadows(
  shadow: Readonly<Record<string, number>>,
  pointFor: (target: string) => number,
): string[] {
  return Object.keys(shadow).filter((target) => pointFor(target) < (shadow[target] ?? 0));
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
