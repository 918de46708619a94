import type { Load } from '../../dist/cli/bench/load.js';
import type { Goal } from '../report.js';
import { INFERMUX, INFERMUX_UNBATCHED, MAIN_THREAD, PISCINA_1, PISCINA_32 } from './contenders.js';
import { type Measurements, median } from './measurements.js';

/** Returns the name of the open loop at 70 % of a capacity. */
export const openLoad = (whose: string) => `open loop at 70 % of ${whose}`;
export const callersLoad = (callers: number) => (callers === 1 ? '1 caller' : `${callers} callers`);

/** Returns the goals, as ratios of measurements made side by side in the same round. */
export function goals(measured: Measurements, models: readonly { id: string; title: string }[]): Goal[] {
  const throughput = ({ throughput: value }: Load) => value;
  const p50 = ({ p50: value }: Load) => value;
  const p99 = ({ p99: value }: Load) => value;
  const rounds = (model: string, kind: { name: string }, load: string, read: (load: Load) => number) =>
    measured.rounds(model, kind.name, load).map(read);
  const against = (left: readonly number[], right: readonly number[]) =>
    left.map((value, round) => value / (right[round] ?? Number.NaN));
  const title = (id: string) => models.find((model) => model.id === id)?.title ?? id;
  const many = callersLoad(256);

  const all: Goal[] = [];
  for (const id of ['mlp-8', 'mlp-64', 'mlp-512']) {
    const own = rounds(id, INFERMUX, many, throughput);
    all.push({
      what: `${title(id)}, 256 callers, relative to Piscina with 32 tasks per worker`,
      values: against(own, rounds(id, PISCINA_32, many, throughput)),
      bound: median(against(measured.limit(id, 64), rounds(id, PISCINA_32, many, throughput))),
      ...{ unit: '×', limit: 10, aim: 15 },
    });
  }
  for (const [id, limit, aim] of [
    ['mlp-8', 4, 8],
    ['mlp-64', 4, 8],
    ['mlp-512', 17, 22],
  ] as const) {
    all.push({
      what: `${title(id)}, 256 callers, relative to the main thread`,
      values: against(rounds(id, INFERMUX, many, throughput), rounds(id, MAIN_THREAD, many, throughput)),
      bound: median(against(measured.limit(id, 64), rounds(id, MAIN_THREAD, many, throughput))),
      ...{ unit: '×', limit, aim },
    });
  }
  all.push({
    what: `${title('mlp-512')}, 256 callers, share of the bare loop at batch 64`,
    values: against(rounds('mlp-512', INFERMUX, many, throughput), measured.limit('mlp-512', 64)),
    ...{ unit: '×', limit: 0.7, aim: 0.85 },
  });
  const some = callersLoad(64);
  all.push({
    what: `${title('mlp-8')}, not batched, 64 callers, relative to Piscina with 1 task per worker`,
    values: against(
      rounds('mlp-8', INFERMUX_UNBATCHED, some, throughput),
      rounds('mlp-8', PISCINA_1, some, throughput),
    ),
    ...{ unit: '×', limit: 4, aim: 5 },
  });
  const few = callersLoad(16);
  all.push({
    what: `${title('conv')}, 16 callers, relative to the main thread`,
    values: against(rounds('conv', INFERMUX, few, throughput), rounds('conv', MAIN_THREAD, few, throughput)),
    bound: median(against(measured.limit('conv', 1), rounds('conv', MAIN_THREAD, few, throughput))),
    ...{ unit: '×', limit: 1.85, aim: 1.95 },
  });
  const one = callersLoad(1);
  all.push({
    what: `${title('mlp-8')}, one caller, p50 relative to Piscina`,
    values: against(rounds('mlp-8', INFERMUX, one, p50), rounds('mlp-8', PISCINA_1, one, p50)),
    ...{ unit: '×', limit: 1, aim: 0.8, atMost: true },
  });
  for (const id of ['mlp-8', 'mlp-64']) {
    const load = openLoad(PISCINA_1.name);
    all.push({
      what: `${title(id)}, open loop at 70 % of the capacity of Piscina with 1 task per worker, p99 relative to Piscina's`,
      values: against(rounds(id, INFERMUX, load, p99), rounds(id, PISCINA_1, load, p99)),
      ...{ unit: '×', limit: 0.5, aim: 0.33, atMost: true },
    });
  }
  for (const id of ['mlp-8', 'mlp-64']) {
    const load = openLoad(INFERMUX.name);
    all.push({
      what: `${title(id)}, ${load}'s capacity, p99`,
      values: rounds(id, INFERMUX, load, p99),
      ...{ unit: 'ms', limit: 10, aim: 5, atMost: true },
    });
  }
  for (const { id } of models) {
    all.push({
      what: `${title(id)}, 256 callers, event-loop delay of the calling thread, p99`,
      values: measured.rounds(id, INFERMUX.name, many).map(({ loopDelayP99 }) => loopDelayP99),
      ...{ unit: 'ms', limit: 5, aim: 2, atMost: true },
    });
  }
  return all.filter(({ values }) => values.length > 0);
}
