/** Requests for one model, or for several that are alike. */
export interface Stream {
  readonly name: string;
  /** Milliseconds of a run with one thread; one number for each phase if it changes. */
  readonly runMs: number | readonly number[];
  readonly loadMs: number;
  /** Share of a run that several threads divide among them, 0 to 1. Default 0. */
  readonly parallel?: number;
  /** Share of a run that does not grow with the requests of a batch, 0 to 1. Default: requests are not joined. */
  readonly fixed?: number;
  /** Models; the k-th is asked for with a share of 1/k. Default 1. */
  readonly models?: number;
  /** Callers, each of which sends its next request after its answer; one number for each phase if it changes. */
  readonly callers?: number | readonly number[];
  /** Milliseconds that a caller waits after its answer. Default 0. */
  readonly pauseMs?: number;
  /** Requests per second, at random times. */
  readonly perSecond?: number;
  /** Requests that come at once, every so many milliseconds; each time for the next of the models. */
  readonly burst?: { readonly requests: number; readonly everyMs: number };
  /** Whether a careful user would give it a deployment of its own. */
  readonly isShort?: boolean;
}

/** A part of the time of a mix. */
export interface Phase {
  readonly name: string;
  readonly ms: number;
  /** Whether its requests count. Those of a warm-up do not, and those right after a change. */
  readonly isMeasured: boolean;
}

/** Streams of different kinds that share a machine. */
export interface Mix {
  readonly name: string;
  /** Cores of the machine, and replicas. */
  readonly cores: number;
  /** Sessions in each replica. */
  readonly sessions: number;
  readonly phases: readonly Phase[];
  readonly streams: readonly Stream[];
  readonly seeds: number;
}

/** Returns the value of the phase. */
export function ofPhase(value: number | readonly number[], phase: number): number {
  return typeof value === 'number' ? value : (value[phase] ?? 0);
}

/** A mix is steady when nothing changes after its warm-up. */
export function isSteady({ phases }: Mix): boolean {
  return phases.length === 2;
}

const STEADY = [
  { name: 'warm-up', ms: 30_000, isMeasured: false },
  { name: 'steady', ms: 120_000, isMeasured: true },
] as const;

/** For requests that are rare. */
const LONGER = [
  { name: 'warm-up', ms: 60_000, isMeasured: false },
  { name: 'steady', ms: 1_200_000, isMeasured: true },
] as const;

/** For many cores, which do many runs. */
const SHORTER = [
  { name: 'warm-up', ms: 30_000, isMeasured: false },
  { name: 'steady', ms: 40_000, isMeasured: true },
] as const;

function mix(name: string, streams: readonly Stream[], own: Partial<Mix> = {}): Mix {
  return { cores: 2, sessions: 8, phases: STEADY, seeds: 3, ...own, name, streams };
}

/** A perceptron of 184 MB. */
const HEAVY = { name: 'heavy', runMs: 15, loadMs: 450, parallel: 0.9 } as const;
const SHORT = { name: 'short', runMs: 0.3, loadMs: 20, parallel: 0.3, callers: 1, pauseMs: 5, isShort: true } as const;
const LONG = { name: 'long', runMs: 125, loadMs: 800, parallel: 0.9, callers: 8 } as const;

/** How long a change may take to show: ten runs. */
const TEN_RUNS_MS = 10 * HEAVY.runMs;

/** 16 callers come to an engine that has nothing loaded. */
export const COLD = mix('a cold second replica, 16 callers', [{ ...HEAVY, callers: 16 }], {
  phases: [
    { name: 'two loads', ms: 2 * HEAVY.loadMs, isMeasured: false },
    { name: 'next 2 s', ms: 2_000, isMeasured: true },
    { name: 'later', ms: 20_000, isMeasured: true },
  ],
});

export const BURSTS = mix(
  'bursts of 60 for a new small model',
  [
    {
      ...{ name: 'new', runMs: 0.5, loadMs: 60, fixed: 0.9, isShort: true },
      ...{ models: 150, burst: { requests: 60, everyMs: 1_000 } },
    },
  ],
  { cores: 4, sessions: 200 },
);

export const SHORT_BESIDE_LONG = mix('0.3 ms beside 8 callers of 125 ms', [SHORT, LONG]);

/** One caller, then many, then one. */
export const CHANGING = mix('heavy, 1, 16 and 1 callers', [{ ...HEAVY, callers: [1, 1, 16, 16, 1, 1] }], {
  phases: [
    { name: 'warm-up', ms: 30_000, isMeasured: false },
    { name: '1 caller', ms: 10_000, isMeasured: true },
    { name: 'ten runs', ms: TEN_RUNS_MS, isMeasured: false },
    { name: '16 callers', ms: 10_000, isMeasured: true },
    { name: 'ten runs', ms: TEN_RUNS_MS, isMeasured: false },
    { name: '1 caller again', ms: 10_000, isMeasured: true },
  ],
});

/** A short model whose runs become long for a while. */
export const TURNING = mix(
  'a short model that turns slow, and back',
  [{ ...SHORT, runMs: [0.3, 0.3, 150, 150, 0.3, 0.3] }, LONG],
  {
    phases: [
      { name: 'warm-up', ms: 30_000, isMeasured: false },
      { name: 'short', ms: 30_000, isMeasured: true },
      { name: 'change', ms: 10_000, isMeasured: false },
      { name: 'slow', ms: 30_000, isMeasured: true },
      { name: 'change', ms: 10_000, isMeasured: false },
      { name: 'short again', ms: 30_000, isMeasured: true },
    ],
  },
);

export const MIXES: readonly Mix[] = [
  ...[1, 2, 16].map((callers) => mix(`heavy, callers: ${callers}`, [{ ...HEAVY, callers }])),
  CHANGING,
  mix('heavy, 5 a second', [{ ...HEAVY, perSecond: 5 }]),
  mix('heavy, offered 0.3', [{ ...HEAVY, perSecond: 40 }]),
  mix('heavy, offered 0.7', [{ ...HEAVY, perSecond: 93 }]),
  mix('a model that no thread speeds up, 1 caller', [{ ...HEAVY, parallel: 0, callers: 1 }]),
  COLD,
  BURSTS,
  SHORT_BESIDE_LONG,
  mix('0.3, 0.5 and 1 ms beside 8 callers of 125 ms', [
    SHORT,
    { ...SHORT, name: 'short 2', runMs: 0.5 },
    { ...SHORT, name: 'short 3', runMs: 1 },
    LONG,
  ]),
  mix('0.3, 20 and 2,000 ms', [
    SHORT,
    { ...HEAVY, name: 'middle', runMs: 20, callers: 1, pauseMs: 20, isShort: true },
    { ...LONG, runMs: 2_000, callers: 4 },
  ]),
  mix('0.3 ms, 6 a minute, beside 8 callers of 125 ms', [{ ...SHORT, callers: 0, perSecond: 0.1 }, LONG], {
    phases: LONGER,
  }),
  mix('0.3 ms at random beside 1 caller of 125 ms', [
    { ...SHORT, callers: 0, perSecond: 20 },
    { ...LONG, callers: 1 },
  ]),
  TURNING,
  mix('20 models, room for 8', [{ ...HEAVY, name: 'many', models: 20, perSecond: 2 }], { sessions: 4 }),
  mix('0.3 ms beside 12 long models, room for 8', [SHORT, { ...LONG, callers: 2, pauseMs: 500, models: 12 }], {
    sessions: 4,
  }),
  ...[4, 16].flatMap((cores) => {
    const many = { cores, phases: SHORTER };
    const short = [SHORT, { ...LONG, callers: 4 * cores }];
    return [
      ...[1, 2, 8 * cores].map((callers) =>
        mix(`${cores} cores, heavy, callers: ${callers}`, [{ ...HEAVY, callers }], many),
      ),
      mix(`${cores} cores, heavy, offered 0.3`, [{ ...HEAVY, perSecond: 20 * cores }], many),
      mix(`${cores} cores, 0.3 ms beside ${4 * cores} callers of 125 ms`, short, many),
    ];
  }),
];
