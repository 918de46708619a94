import { mkdirSync, writeFileSync } from 'node:fs';
import type { Load } from '../../dist/cli/bench/load.js';
import { barChart } from '../../dist/cli/terminal/bar-chart.js';
import { goalTable, type JudgedGoal, machine, markdown, place, writeInto } from '../report.js';
import { callersLoad } from './goals.js';
import type { HeavyMeasurements } from './heavy/measure.js';
import type { Mix } from './heavy/mix.js';
import { HEAVY_CALLERS, HEAVY_CONTENDERS } from './heavy/peers.js';
import { LARGE_CALLERS, type LargeMeasurements } from './large/measure.js';
import { WAYS } from './large/ways.js';
import { ALL_CALLERS, CONTENDERS } from './measure.js';
import { type Measurements, median } from './measurements.js';
import type { BenchModel } from './models.js';

export interface Results {
  readonly models: readonly BenchModel[];
  readonly measured: Measurements;
  readonly heavy: HeavyMeasurements;
  readonly large: LargeMeasurements;
  readonly method: string;
  readonly judged: readonly JudgedGoal[];
}

/** Where the charts of the documentation lie. */
const IMAGES = new URL('../../docs/images/', import.meta.url);

/** Writes `bench/results/`, and the table and the charts of the documentation. */
export function writeResults({ models, measured, heavy, large, method, judged }: Results): void {
  const folder = new URL('../results/', import.meta.url);
  const table = goalTable(judged);
  mkdirSync(folder, { recursive: true });
  const cells = measured.summary();
  const results = {
    date: new Date().toISOString().slice(0, 10),
    machine,
    method,
    goals: judged,
    measurements: cells,
    limits: measured.limits(),
    heavy: { measurements: heavy.peers.summary(), changes: heavy.changes, mixes: heavy.mixes },
    large: large.ways.summary(),
  };
  writeFileSync(new URL('latest.json', folder), `${JSON.stringify(results, undefined, 2)}\n`);

  const perSecond = (value: number) => Math.round(value).toLocaleString('en');
  const loads = ALL_CALLERS.map(callersLoad);
  const throughputLines = models.flatMap(({ id, title }) => [
    ...CONTENDERS.map(({ name }) => [
      title,
      name,
      ...loads.map((load) => perSecond(median(measured.rounds(id, name, load).map(({ throughput }) => throughput)))),
      `${median(measured.rounds(id, name, '1 caller').map(({ p50 }) => p50 * 1_000)).toFixed(0)}`,
      `${median(measured.rounds(id, name, '256 callers').map(({ loopDelayP99 }) => loopDelayP99)).toFixed(1)}`,
    ]),
    [
      title,
      'two threads in a bare loop, batch 1 / 64',
      ...['', '', ''],
      [1, 64]
        .map((rows) => (measured.limit(id, rows).length === 0 ? 'none' : perSecond(median(measured.limit(id, rows)))))
        .join(' / '),
      ...['', ''],
    ],
  ]);
  const throughputTable = markdown(
    ['model', '', ...loads, 'one caller, p50 µs', 'loop delay p99 at 256 callers, ms'],
    throughputLines,
  );
  writeFileSync(
    new URL('latest.md', folder),
    `# Results\n\n${place}. ${method}.\n\n## Goals\n\n${table}\n\n## Requests per second\n\n${throughputTable}\n\n## Heavy models\n\n${describeHeavyResults(heavy)}\n\n## Pictures\n\n${describeLargeResults(large)}\n`,
  );

  const bars = (load: string, read: (load: { throughput: number; p50: number }) => number) =>
    models.flatMap(({ id, title }) =>
      CONTENDERS.map(({ name }) => ({
        group: title,
        label: name,
        value: median(measured.rounds(id, name, load).map(read)),
      })),
    );
  const charts = {
    'throughput.svg': barChart(
      '256 callers',
      'requests per second, each model on a scale of its own',
      bars('256 callers', ({ throughput }) => throughput),
      'own',
    ),
    'latency.svg': barChart(
      'One caller, p50',
      'microseconds, each model on a scale of its own',
      bars('1 caller', ({ p50 }) => p50 * 1_000),
      'own',
    ),
  };
  for (const [name, chart] of Object.entries(charts)) writeFileSync(new URL(name, IMAGES), chart);

  writeInto('bench', `${place}. ${method}.\n\n${table}`, 'docs/performance.md');
}

/** Tells what each contender reached with heavy models, "none" where it was not measured, and the short runs' latency. */
export function describeHeavyResults({ models, peers, mixes }: HeavyMeasurements): string {
  const cell = (values: readonly number[], digits: number) =>
    values.length === 0 ? 'none' : median(values).toFixed(digits);
  const table = markdown(
    ['model', '', ...HEAVY_CALLERS.map((callers) => `${callersLoad(callers)}, requests/s`), 'one caller, p50 ms'],
    models.heavy.flatMap(({ id, title }) =>
      HEAVY_CONTENDERS.map(({ name }) => [
        title,
        name,
        ...HEAVY_CALLERS.map((callers) =>
          cell(
            peers.rounds(id, name, callersLoad(callers)).map(({ throughput }) => throughput),
            0,
          ),
        ),
        cell(
          peers.rounds(id, name, callersLoad(1)).map(({ p50 }) => p50),
          1,
        ),
      ]),
    ),
  );
  const beside = (rounds: readonly Mix[]) => {
    const of = (read: (mix: Mix) => number) => cell(rounds.map(read), 2);
    return `p50 ${of(({ shortP50 }) => shortP50)} ms, p99 ${of(({ shortP99 }) => shortP99)} ms, the long one's throughput ${of(({ longShare }) => longShare)}× of that without it`;
  };
  return `${table}\n\n${models.short.title} beside ${models.long.title}: ${beside(mixes.express)}. By hand, in a deployment of its own: ${beside(mixes.byHand)}.`;
}

/** Tells what each way of a picture to its model reached. */
export function describeLargeResults({ models, ways }: LargeMeasurements): string {
  const load = callersLoad(LARGE_CALLERS);
  return markdown(
    ['picture', `${load}, Node ${process.versions.node}`, 'requests/s', 'p50 ms', 'loop delay p99 ms'],
    models.flatMap(({ id, title }) =>
      WAYS.map((way) => {
        const rounds = ways.rounds(id, way, load);
        const of = (read: (load: Load) => number, digits: number) => median(rounds.map(read)).toFixed(digits);
        return [
          title,
          way,
          of(({ throughput }) => throughput, 0),
          of(({ p50 }) => p50, 1),
          of(({ loopDelayP99 }) => loopDelayP99, 1),
        ];
      }),
    ),
  );
}

/** Writes what was reached with pictures on this version of Node. */
export function writeLargeResults(large: LargeMeasurements, judged: readonly JudgedGoal[], method: string): void {
  const [major] = process.versions.node.split('.');
  writeFileSync(
    new URL(`../results/pictures-node-${major}.md`, import.meta.url),
    `# Pictures, Node ${major}\n\n${place}. ${method}.\n\n${goalTable(judged)}\n\n${describeLargeResults(large)}\n`,
  );
}
