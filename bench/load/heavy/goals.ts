import type { Load } from '../../../dist/cli/bench/load.js';
import type { Goal } from '../../report.js';
import type { ContenderKind } from '../contenders.js';
import { callersLoad } from '../goals.js';
import type { Changes } from './changes.js';
import type { HeavyMeasurements } from './measure.js';
import type { Mix } from './mix.js';
import { AUTO, COMMON_PEERS, FIXED, PEERS, PLAIN_CORES, PLAIN_DEFAULT } from './peers.js';

/** Returns the goals, as ratios of measurements made side by side in the same round. */
export function heavyGoals({ models, peers, changes, mixes }: HeavyMeasurements): Goal[] {
  const throughput = ({ throughput: value }: Load) => value;
  const p50 = ({ p50: value }: Load) => value;
  const { heavy, long, short } = models;
  const all: Goal[] = [];
  for (const { id, title } of heavy) {
    const own = (callers: number) => peers.rounds(id, AUTO.name, callersLoad(callers));
    /** Figures of the best of some contenders, round by round. */
    const best = (kinds: readonly ContenderKind[], callers: number, of: (...loads: Load[]) => number) => {
      const loads = kinds.map((kind) => peers.rounds(id, kind.name, callersLoad(callers)));
      return own(callers).map((_, round) => of(...loads.map((rounds) => rounds[round] as Load)));
    };
    const against = (left: readonly number[], right: readonly number[]) =>
      left.map((value, round) => value / (right[round] as number));
    const most = (...loads: Load[]) => Math.max(...loads.map(throughput));
    all.push(
      ...[PLAIN_DEFAULT, PLAIN_CORES].map(
        (kind): Goal => ({
          what: `${title}, one caller, p50 relative to ${kind.name}`,
          values: against(own(1).map(p50), peers.rounds(id, kind.name, callersLoad(1)).map(p50)),
          ...{ unit: '×', limit: 1.1, aim: 1.02, atMost: true },
        }),
      ),
      {
        what: `${title}, 2 callers, relative to the best of onnxruntime-node and Piscina with default threads or one thread`,
        values: against(own(2).map(throughput), best(COMMON_PEERS, 2, most)),
        ...{ unit: '×', limit: 0.95, aim: 1 },
      },
      {
        what: `${title}, 2 callers, relative to the best of onnxruntime-node and Piscina with default threads, one thread, or one thread per core`,
        values: against(own(2).map(throughput), best(PEERS, 2, most)),
        ...{ unit: '×', limit: 0.95, aim: 1 },
      },
      {
        what: `${title}, 16 callers, relative to the best fixed number of threads`,
        values: against(own(16).map(throughput), best(FIXED, 16, most)),
        ...{ unit: '×', limit: 0.97, aim: 1 },
      },
    );
  }
  const title = heavy[0]?.title ?? '';
  const changing = (read: (change: Changes) => number) => changes.map(read);
  const mixed = (read: (mix: Mix) => number) => mixes.express.map(read);
  const beside = `${short.title} beside 8 callers of ${long.title}`;
  all.push(
    {
      what: `${title}, from 1 to 16 and back to 1 caller: runs until the steady state is reached`,
      values: changing(({ settlingRuns }) => settlingRuns),
      ...{ unit: 'runs', limit: 10, aim: 3, atMost: true },
    },
    {
      what: `${title}, CPU time of the idle process, as a share of one core`,
      values: changing(({ idleShare }) => 100 * idleShare),
      ...{ unit: '%', limit: 1, aim: 1, atMost: true },
    },
    {
      what: `${title}, 16 callers of a cold engine, when two load times have passed since the first request: throughput relative to the steady state`,
      values: changing(({ coldShare }) => coldShare),
      ...{ unit: '×', limit: 0.9, aim: 1 },
    },
    {
      what: `${beside}: p99 of the short one`,
      values: mixed(({ shortP99 }) => shortP99),
      ...{ unit: 'ms', limit: 8, aim: 3, atMost: true },
    },
    {
      what: `${beside}: throughput of the long one, relative to that without the short one`,
      values: mixed(({ longShare }) => longShare),
      ...{ unit: '×', limit: 0.93, aim: 0.97 },
    },
  );
  return all;
}
