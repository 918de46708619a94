import Table from 'cli-table3';
import colors from 'picocolors';
import { createEngine } from '../engine.js';
import { type Bar, barChart } from './bar-chart.js';
import { closedLoop, type Load } from './load.js';
import { type InputShapes, randomFeeds } from './random-feeds.js';

export interface BenchOptions {
  readonly path: string;
  readonly shapes: InputShapes;
  /** Concurrent callers to try. */
  readonly callers: readonly number[];
  readonly replicas: readonly number[];
  /** Of each measurement. */
  readonly seconds: number;
}

export interface BenchRow extends Load {
  readonly replicas: number;
  readonly callers: number;
  /** Mean number of requests that shared a call. */
  readonly batchSize: number;
}

export interface BenchReport {
  readonly path: string;
  readonly rows: readonly BenchRow[];
  /** The row with the highest throughput. */
  readonly best: BenchRow;
}

const MODEL_ID = 'model';
const WARM_UP_MS = 300;

/**
 * Measures a model with every number of replicas and callers.
 *
 * @throws InfermuxError for a model that cannot be loaded or inputs that do not fit; whatever the first failed request says.
 */
export async function benchModel(
  options: BenchOptions,
  progress: (done: number, total: number) => void,
): Promise<BenchReport> {
  const { path, shapes, callers, replicas, seconds } = options;
  const rows: BenchRow[] = [];
  for (const count of replicas) {
    const engine = await createEngine({ models: { [MODEL_ID]: path }, replicas: count, maxQueuedRequests: -1 });
    try {
      const { inputs } = await engine.loadMetadata(MODEL_ID);
      for (const concurrency of callers) {
        const feeds = Array.from({ length: concurrency }, () => randomFeeds(inputs, shapes, Math.random));
        let requests = 0;
        let calls = 0;
        const load = await closedLoop(
          async (caller) => {
            const { batchSize } = await engine.infer({ target: MODEL_ID, feeds: feeds[caller] ?? {} });
            requests += 1;
            calls += 1 / batchSize;
          },
          { callers: concurrency, warmUpMs: WARM_UP_MS, milliseconds: seconds * 1_000 },
        );
        rows.push({ replicas: count, callers: concurrency, batchSize: requests / calls, ...load });
        progress(rows.length, callers.length * replicas.length);
      }
    } finally {
      await engine.close();
    }
  }
  const best = rows.reduce((left, right) => (right.throughput > left.throughput ? right : left));
  return { path, rows, best };
}

const BAR_WIDTH = 24;

export function benchTable({ rows, best }: BenchReport): string {
  const head = ['replicas', 'callers', 'requests/s', '', 'p50 ms', 'p95 ms', 'p99 ms', 'requests per call'];
  const table = new Table({ head, style: { head: [], border: [] } });
  for (const row of rows) {
    const bar = '█'.repeat(Math.max(1, Math.round((BAR_WIDTH * row.throughput) / best.throughput)));
    const cells = [
      row.replicas,
      row.callers,
      Math.round(row.throughput).toLocaleString('en'),
      bar,
      row.p50.toFixed(3),
      row.p95.toFixed(3),
      row.p99.toFixed(3),
      row.batchSize.toFixed(1),
    ];
    table.push(row === best ? cells.map((cell) => colors.bold(String(cell))) : cells);
  }
  const rate = Math.round(best.throughput).toLocaleString('en');
  return `${table}\nbest: ${best.replicas} ${best.replicas === 1 ? 'replica' : 'replicas'} and ${best.callers} ${best.callers === 1 ? 'caller' : 'callers'}, ${rate} requests/s`;
}

export function benchChart({ path, rows }: BenchReport): string {
  const bars = rows.map(
    ({ replicas, callers, throughput }): Bar => ({
      group: `${replicas} ${replicas === 1 ? 'replica' : 'replicas'}`,
      label: `${callers} ${callers === 1 ? 'caller' : 'callers'}`,
      value: throughput,
    }),
  );
  return barChart(path, 'requests per second', bars);
}
