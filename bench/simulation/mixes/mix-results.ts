import type { Goal } from '../../report.js';
import type { Comer } from '../machine/simulated-deployment.js';
import { BURSTS, COLD, isSteady, type Mix, SHORT_BESIDE_LONG } from './mix.js';
import type { MixOutcome, StreamOutcome } from './mix-outcome.js';
import { SERVERS, type Server } from './mix-simulation.js';

/** The outcomes of one server in one mix, seed by seed. */
export interface MixResult {
  readonly mix: Mix;
  readonly server: Server;
  readonly outcomes: readonly MixOutcome[];
}

type Measure = 'meanMs' | 'p99Ms' | 'perSecond';

/** Returns what may serve the mix: without short models nobody would give them a deployment of their own. */
export function serversOf({ streams }: Mix): readonly Server[] {
  const hasShort = streams.length > 1 && streams.some(({ isShort }) => isShort === true);
  return SERVERS.filter((server) => server !== 'by hand' || hasShort);
}

/** One stream in one phase, with what came of it by server. */
export class MixRow {
  readonly mix: Mix;
  readonly stream: string;
  readonly phase: string;
  readonly #results: ReadonlyMap<Server, MixResult>;

  constructor(mix: Mix, { stream, phase }: StreamOutcome, results: ReadonlyMap<Server, MixResult>) {
    this.mix = mix;
    this.stream = stream;
    this.phase = phase;
    this.#results = results;
  }

  /** Returns the mean over the seeds; undefined when the server does not serve the mix. */
  of(server: Server, measure: Measure): number | undefined {
    const outcomes = this.#results.get(server)?.outcomes;
    if (outcomes === undefined) return undefined;
    const own = ({ streams }: MixOutcome) =>
      streams.find(({ stream, phase }) => stream === this.stream && phase === this.phase)?.[measure] ?? Number.NaN;
    return meanOf(outcomes, own);
  }

  /** The default's time as a multiple of the best fixed alternative's. */
  toBest(measure: 'meanMs' | 'p99Ms'): number {
    const others = SERVERS.filter((server) => server !== 'default').flatMap((server) => this.of(server, measure) ?? []);
    return (this.of('default', measure) ?? Number.NaN) / Math.min(...others);
  }
}

/** Finds results by mix and server. */
export class MixResults {
  readonly all: readonly MixResult[];
  readonly #byMix = new Map<Mix, Map<Server, MixResult>>();

  constructor(all: readonly MixResult[]) {
    this.all = all;
    for (const result of all) {
      const { mix, server } = result;
      const ofMix = this.#byMix.get(mix) ?? new Map<Server, MixResult>();
      this.#byMix.set(mix, ofMix.set(server, result));
    }
  }

  get mixes(): Mix[] {
    return [...this.#byMix.keys()];
  }

  of(mix: Mix, server: Server): MixResult {
    const result = this.#byMix.get(mix)?.get(server);
    if (result === undefined) throw new Error(`${server} was not simulated in "${mix.name}"`);
    return result;
  }

  rowsOf(mix: Mix): MixRow[] {
    const results = this.#byMix.get(mix) ?? new Map<Server, MixResult>();
    return (results.get('default')?.outcomes[0]?.streams ?? []).map((outcome) => new MixRow(mix, outcome, results));
  }

  /** How often what came most often did, in the time of ten loads: the most of all seeds. */
  swings(mix: Mix, server: Server, what: Comer): number {
    return Math.max(...this.of(mix, server).outcomes.map(({ swings }) => swings[what]));
  }

  /** The mean number of sessions that were loaded, or of express replicas that were started. */
  came(mix: Mix, server: Server, what: Comer): number {
    return meanOf(this.of(mix, server).outcomes, ({ came }) => came[what]);
  }
}

function meanOf(outcomes: readonly MixOutcome[], value: (outcome: MixOutcome) => number): number {
  return outcomes.reduce((sum, outcome) => sum + value(outcome), 0) / outcomes.length;
}

/** Whether the replicas have room for all models, so that none has to leave for another. */
export function hasRoom({ streams, sessions }: Mix): boolean {
  return streams.reduce((sum, { models = 1 }) => sum + models, 0) <= sessions;
}

/** Returns the goals of the mixes. */
export function mixGoals(results: MixResults): Goal[] {
  const rows = results.mixes.flatMap((mix) => results.rowsOf(mix));
  const steady = results.mixes.filter(isSteady);
  const goal = (what: string, value: number, limit: number, aim: number, own: Partial<Goal> = {}): Goal => ({
    ...{ what, values: [value], unit: '×', limit, aim, atMost: true },
    ...own,
  });
  const worst = (measure: 'meanMs' | 'p99Ms') => Math.max(...rows.map((row) => row.toBest(measure)));
  const most = (mixes: readonly Mix[], what: Comer) =>
    Math.max(0, ...mixes.map((mix) => results.swings(mix, 'default', what)));
  const times = { unit: 'times' } as const;
  const goals = [
    goal(
      `the default's mean, relative to that of the best fixed server, the worst of ${rows.length}`,
      worst('meanMs'),
      1.5,
      1.5,
    ),
    goal(
      `the default's p99, relative to that of the best fixed server, the worst of ${rows.length}`,
      worst('p99Ms'),
      1.5,
      1.5,
    ),
    goal(
      'narrow sessions come, where there is room, in ten loads',
      most(steady.filter(hasRoom), 'narrow'),
      1,
      0,
      times,
    ),
    goal('wide sessions come, in ten loads', most(steady, 'wide'), 1, 0, times),
    goal('express replicas come, in ten loads', most(steady, 'express'), 1, 0, times),
  ];
  const atLeast = { atMost: false } as const;
  if (results.mixes.includes(SHORT_BESIDE_LONG)) {
    const [short, long] = results.rowsOf(SHORT_BESIDE_LONG);
    const kept = (long?.of('default', 'perSecond') ?? 0) / (long?.of('narrow', 'perSecond') ?? 0);
    goals.push(
      goal('short beside long, p99 of the short one', short?.of('default', 'p99Ms') ?? 0, 8, 3, { unit: 'ms' }),
    );
    goals.push(goal('short beside long, the long one to narrow sessions alone', kept, 0.93, 0.97, atLeast));
  }
  if (results.mixes.includes(COLD)) {
    const [soon, later] = results.rowsOf(COLD).map((row) => row.of('default', 'perSecond') ?? 0);
    goals.push(goal('a cold second replica, after two loads to later', (soon ?? 0) / (later ?? 1), 0.9, 1, atLeast));
  }
  if (results.mixes.includes(BURSTS)) {
    const bursts = results.of(BURSTS, 'one wide replica').outcomes[0]?.came.narrow ?? 0;
    goals.push(
      goal(
        'replicas that load a new small model for a burst',
        results.came(BURSTS, 'default', 'narrow') / bursts,
        1.1,
        1,
        times,
      ),
    );
  }
  return goals;
}
