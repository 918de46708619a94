import { DEFAULT_ROUTER, ROUTER_NAMES, type RouterName } from '../../dist/contracts/request-router.js';
import type { Goal } from '../report.js';
import type { Contender } from './case.js';
import type { Outcome } from './outcome.js';
import { LOADS_OF_200, NAMED, type Setting } from './setting.js';

export const RAY_SERVE: Contender = { kind: 'ray-serve' };
export const CENTRAL_QUEUE: Contender = { kind: 'central-queue' };
export const DEFAULT: Contender = { kind: 'engine', router: DEFAULT_ROUTER, eviction: 'lru' };
export const COST_AWARE: Contender = { kind: 'engine', router: DEFAULT_ROUTER, eviction: 'cost-aware' };
const ROUTERS = ROUTER_NAMES.map((router): Contender => ({ kind: 'engine', router, eviction: 'lru' }));

/** All contenders, with the yardsticks at both ends. */
export const CONTENDERS: readonly Contender[] = [CENTRAL_QUEUE, ...ROUTERS, COST_AWARE, RAY_SERVE];

/** Below this load time, neither cache policy has much to decide. */
const LEAST_LOAD_TIME = 0.005;

export function nameOf(contender: Contender): string {
  if (contender.kind !== 'engine') return contender.kind === 'ray-serve' ? 'Ray Serve' : 'central queue';
  return contender.eviction === 'lru' ? contender.router : `${contender.router}, ${contender.eviction}`;
}

/** The outcomes of one contender in one setting, seed by seed. */
export interface Result {
  readonly setting: Setting;
  readonly contender: Contender;
  readonly outcomes: readonly Outcome[];
}

export function isSettled({ outcomes }: Result): boolean {
  return outcomes.every((outcome) => outcome.isSettled);
}

/** Returns the mean over the seeds. */
export function meanOf({ outcomes }: Result, key: 'mean' | 'p99' | 'loads' | 'loadTime'): number {
  return outcomes.reduce((sum, outcome) => sum + outcome[key], 0) / outcomes.length;
}

/** Finds results by setting and contender. */
export class Results {
  readonly all: readonly Result[];
  readonly #byName: ReadonlyMap<string, Result>;

  constructor(all: readonly Result[]) {
    this.all = all;
    this.#byName = new Map(all.map((result) => [keyOf(result.setting, result.contender), result]));
  }

  get settings(): Setting[] {
    return [...new Set(this.all.map(({ setting }) => setting))];
  }

  of(setting: Setting, contender: Contender): Result {
    const result = this.#byName.get(keyOf(setting, contender));
    if (result === undefined) throw new Error(`${nameOf(contender)} was not simulated in "${setting.name}"`);
    return result;
  }

  /** Returns the routers with the default cache policy that settle. */
  settledRouters(setting: Setting): Result[] {
    return ROUTERS.map((router) => this.of(setting, router)).filter(isSettled);
  }

  /** Returns the lowest value of the routers that settle. */
  best(setting: Setting, key: 'mean' | 'p99'): number {
    return Math.min(...this.settledRouters(setting).map((result) => meanOf(result, key)));
  }
}

function keyOf(setting: Setting, contender: Contender): string {
  return `${setting.name}\n${nameOf(contender)}`;
}

/** Returns the goals of the simulator. */
export function goals(results: Results): Goal[] {
  const stable = results.settings.filter((setting) => results.settledRouters(setting).length > 0);
  const evicting = stable.filter((setting) => {
    const own = results.of(setting, DEFAULT);
    return isSettled(own) && meanOf(own, 'loadTime') >= LEAST_LOAD_TIME;
  });
  const loadTimeOf = (setting: Setting, contender: Contender) => {
    const result = results.of(setting, contender);
    return isSettled(result) ? meanOf(result, 'loadTime') : Number.POSITIVE_INFINITY;
  };
  const loadTime = (contender: Contender) => evicting.reduce((sum, setting) => sum + loadTimeOf(setting, contender), 0);
  const worst = (key: 'mean' | 'p99') =>
    stable.map((setting) => {
      const own = results.of(setting, DEFAULT);
      return isSettled(own) ? meanOf(own, key) / results.best(setting, key) : Number.POSITIVE_INFINITY;
    });
  const expected: Contender = { kind: 'engine', router: 'expected-completion' satisfies RouterName, eviction: 'lru' };
  const atMost = (what: string, value: number, limit: number, unit: Goal['unit'] = '×'): Goal => ({
    ...{ what, values: [value], unit, limit, aim: limit, atMost: true },
  });
  const ofAll = `of ${stable.length} settings that settle`;
  return [
    atMost(`the default's mean, relative to the best router's, the worst ${ofAll}`, Math.max(...worst('mean')), 1.5),
    atMost(`the default's p99, relative to the best router's, the worst ${ofAll}`, Math.max(...worst('p99')), 1.5),
    atMost(`default's mean, ${NAMED.name}`, meanOf(results.of(NAMED, DEFAULT), 'mean'), 2.5, 'services'),
    atMost(
      `seeds of it in which Ray Serve's rule settles`,
      results.of(NAMED, RAY_SERVE).outcomes.filter((outcome) => outcome.isSettled).length,
      0,
      'seeds',
    ),
    ...LOADS_OF_200.map((setting) =>
      atMost(
        `expected-completion's mean, relative to the best router's, ${setting.name}`,
        meanOf(results.of(setting, expected), 'mean') / results.best(setting, 'mean'),
        1.1,
      ),
    ),
    atMost(
      `time of all loads, cost-aware to lru, ${evicting.length} settings with loads`,
      loadTime(COST_AWARE) / loadTime(DEFAULT),
      0.85,
    ),
    atMost(
      'the same, the worst of them',
      Math.max(...evicting.map((setting) => loadTimeOf(setting, COST_AWARE) / loadTimeOf(setting, DEFAULT))),
      1.02,
    ),
  ];
}
