/** A setting to simulate. Times are in services: the mean time that a request takes. */
export interface Setting {
  readonly name: string;
  readonly replicas: number;
  readonly models: number;
  /** Sessions in each replica. */
  readonly sessions: number;
  /** Share of the replicas' time that requests would take if no model were ever loaded. */
  readonly offered: number;
  /** Mean time of a load over the models. */
  readonly load: number;
  readonly service: 'constant' | 'exponential' | 'two-peaked';
  /** Exponent of the models' popularity. */
  readonly zipf: number;
  readonly popularity: 'steady' | 'drifting' | 'bursting';
  /** Whether models differ in bytes, and in the cost of a load per byte. Sessions are then limited by bytes. */
  readonly sizes: 'alike' | 'varied';
  /** `slow`: one replica takes three times as long. `cold`: all start empty. `crashing`: some die and others join. */
  readonly trouble: 'none' | 'slow' | 'cold' | 'crashing';
  readonly requests: number;
  /** Number of seeds: more where the results differ much. */
  readonly seeds: number;
  /** Callers, each of which sends its next request after its answer; undefined: requests come as `offered` says. */
  readonly callers?: number;
}

/** Most waiting requests per replica. When one more comes, the queue almost surely grows without end. */
export const QUEUE_LIMIT = 512;
const SLOWNESS = 3;
/** Time from one crash to the next, and from a crash to the new replica. */
export const CRASH_EVERY = 2_000;
export const REJOIN_AFTER = 100;

/** Returns the factor by which the replica's times are longer. */
export function slownessOf({ trouble }: Setting, replica: number): number {
  return trouble === 'slow' && replica === 0 ? SLOWNESS : 1;
}

const BASE = {
  replicas: 8,
  models: 64,
  sessions: 16,
  offered: 0.8,
  load: 20,
  service: 'exponential',
  zipf: 1,
  popularity: 'steady',
  sizes: 'alike',
  trouble: 'none',
  requests: 60_000,
  seeds: 5,
} as const satisfies Omit<Setting, 'name'>;

function setting(name: string, own: Partial<Setting> = {}): Setting {
  return { ...BASE, ...own, name };
}

/** The setting that the goals name. */
export const NAMED = setting('64 models, 8 replicas, load 20');
export const LOADS_OF_200 = [
  setting('load 200', { load: 200, requests: 240_000 }),
  setting('load 200, offered 0.5', { load: 200, offered: 0.5, requests: 240_000 }),
  setting('load 200, constant times', { load: 200, service: 'constant', requests: 240_000 }),
] as const;

/** More models than the replicas have places for. */
const MANY = { models: 200, offered: 0.4, load: 5 } as const;

export const SETTINGS: readonly Setting[] = [
  setting('one model, everywhere', { models: 1, sessions: 1, offered: 0.9 }),
  setting('2 replicas, 10 models, room for all', { replicas: 2, models: 10, sessions: 10 }),
  NAMED,
  setting('constant times', { service: 'constant' }),
  setting('two-peaked times', { service: 'two-peaked' }),
  setting('offered 0.5', { offered: 0.5 }),
  setting('offered 0.95', { offered: 0.95, requests: 120_000 }),
  setting('load 1', { load: 1 }),
  ...LOADS_OF_200,
  setting('10 models, 3 sessions, load 1', { models: 10, sessions: 3, load: 1 }),
  setting('9 sessions, load 5, offered 0.5', { sessions: 9, offered: 0.5, load: 5 }),
  setting('9 sessions, load 10, offered 0.5 (40 seeds)', { sessions: 9, offered: 0.5, load: 10, seeds: 40 }),
  setting('6 sessions, load 5, offered 0.4', { sessions: 6, offered: 0.4, load: 5 }),
  setting('4 sessions, load 2, offered 0.5', { sessions: 4, offered: 0.5, load: 2 }),
  setting('1,000 models, load 2, offered 0.5', { models: 1_000, offered: 0.5, load: 2 }),
  setting('200 models', MANY),
  setting('200 models, drifting', { ...MANY, popularity: 'drifting' }),
  setting('200 models, bursting', { ...MANY, popularity: 'bursting' }),
  setting('200 models of all sizes', { ...MANY, sizes: 'varied' }),
  setting('200 models of all sizes, drifting', { ...MANY, sizes: 'varied', popularity: 'drifting' }),
  setting('200 models of all sizes, load 20, bursting', {
    ...{ ...MANY, offered: 0.2, load: 20, sizes: 'varied', popularity: 'bursting' },
  }),
  setting('a slow replica', { offered: 0.7, trouble: 'slow' }),
  setting('a cold start', { offered: 0.7, load: 5, trouble: 'cold' }),
  setting('crashing replicas', { offered: 0.7, trouble: 'crashing' }),
  setting('100 replicas, 1,000 models', { replicas: 100, models: 1_000, sessions: 32, requests: 200_000 }),
];

/** The load that `test/integration/routing.test.ts` gives to real threads. */
export const TWELVE_MODELS = setting('12 models, 3 sessions, 2 replicas, 8 callers', {
  ...{ replicas: 2, models: 12, sessions: 3, callers: 8, requests: 6_000 },
});

/** The setting that measures the time of a simulation. */
export const LARGEST = setting('1,000 replicas, 10,000 models', {
  ...{ replicas: 1_000, models: 10_000, sessions: 32, requests: 1_000_000 },
});
