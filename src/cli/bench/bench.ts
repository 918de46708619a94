import Table from 'cli-table3';
import colors from 'picocolors';
import type { Feeds } from '../../index.js';
import { createEngine, type InferenceEngine } from '../../index.js';
import type { Signs } from '../children/jobs.js';
import { nameModel } from '../named-model.js';
import { type Bar, barChart } from '../terminal/bar-chart.js';
import { closedLoop, type Load } from './load.js';
import { bytesOfFeeds, type InputShapes, randomFeeds } from './random-feeds.js';

export interface BenchOptions {
  readonly path: string;
  readonly shapes: InputShapes;
  /** Concurrent callers to try, in this order. */
  readonly callers: readonly number[];
  readonly replicas: readonly number[];
  /** Length of each measurement. */
  readonly seconds: number;
}

export interface BenchRow extends Load {
  readonly replicas: number;
  readonly callers: number;
  /** Mean number of requests that shared a call. */
  readonly batchSize: number;
}

/** A number of replicas and callers that was not measured. */
export interface SkippedRow {
  readonly replicas: number;
  readonly callers: number;
  /** Requests per second of the row before. */
  readonly throughput: number;
}

export interface BenchReport {
  readonly path: string;
  readonly seconds: number;
  readonly rows: readonly BenchRow[];
  /** Measurements that would have taken more than ten times `seconds`, at the throughput of the row before. */
  readonly skipped: readonly SkippedRow[];
  /** The row with the highest throughput. */
  readonly best: BenchRow;
}

const WARM_UP_MS = 300;
/** Milliseconds between two looks at whether requests are answered. */
const BEAT_MS = 250;
/** A measurement waits for every caller, so a slow model with many callers would take minutes. */
const MOST_OVERRUN = 10;
/** Most bytes of the inputs of all callers together. Beyond that some callers send the same inputs. */
const MOST_FEEDS_BYTES = 64 * 2 ** 20;

/**
 * Measures a model with every number of replicas and callers.
 *
 * @throws InfermuxError for a model that cannot be loaded or inputs that do not fit; the error of the first failed
 *   request.
 */
export async function benchModel(options: BenchOptions, { begins, progress }: Signs): Promise<BenchReport> {
  const { path, shapes, callers, replicas, seconds } = options;
  const { id, source } = await nameModel(path);
  const total = callers.length * replicas.length;
  const rows: BenchRow[] = [];
  const skipped: SkippedRow[] = [];
  for (const count of replicas) {
    const engine = await createEngine({
      ...{ models: { [id]: source }, replicas: count, maxQueuedRequests: -1 },
      // The limits of the command count.
      ...{ loadTimeoutMs: -1, healthCheck: { periodMs: 2 ** 31 - 1 } },
    });
    try {
      const bytes = engine.models.size(id);
      begins('load', bytes);
      const { inputs } = await engine.models.inspect(id);
      let throughput = Number.POSITIVE_INFINITY;
      for (const concurrency of callers) {
        if (concurrency > MOST_OVERRUN * seconds * throughput) {
          skipped.push({ replicas: count, callers: concurrency, throughput });
        } else {
          const setting = { replicas: count, callers: concurrency, seconds };
          const goesOn = () => begins('run', bytes);
          const row = await measure(engine, id, setting, () => randomFeeds(inputs, shapes, Math.random), goesOn);
          rows.push(row);
          throughput = row.throughput;
        }
        progress(rows.length + skipped.length, total);
      }
    } finally {
      await engine.close();
    }
  }
  const best = rows.reduce((left, right) => (right.throughput > left.throughput ? right : left));
  return { path, seconds, rows, skipped, best };
}

/** @param goesOn is called at the start, and again and again as long as requests are answered. */
async function measure(
  engine: InferenceEngine,
  target: string,
  { replicas, callers, seconds }: { replicas: number; callers: number; seconds: number },
  makeFeeds: () => Feeds,
  goesOn: () => void,
): Promise<BenchRow> {
  const feeds = [makeFeeds()];
  const most = Math.max(1, Math.floor(MOST_FEEDS_BYTES / bytesOfFeeds(feeds[0] as Feeds)));
  while (feeds.length < Math.min(callers, most)) feeds.push(makeFeeds());
  let requests = 0;
  let calls = 0;
  goesOn();
  let seen = 0;
  const beat = setInterval(() => {
    if (requests > seen) goesOn();
    seen = requests;
  }, BEAT_MS);
  const load = await closedLoop(
    async (caller) => {
      const { batchSize } = await engine.infer({ target, feeds: feeds[caller % feeds.length] as Feeds });
      requests += 1;
      calls += 1 / batchSize;
    },
    { callers, warmUpMs: WARM_UP_MS, milliseconds: seconds * 1_000 },
  ).finally(() => clearInterval(beat));
  return { replicas, callers, batchSize: requests / calls, ...load };
}

const BAR_WIDTH = 24;

export function benchTable({ seconds, rows, skipped, best }: BenchReport): string {
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
  const lines = skipped.map(
    ({ replicas, callers, throughput }) =>
      `not measured: ${amount(replicas, 'replica')} and ${amount(callers, 'caller')}: at ${throughput.toPrecision(2)} requests/s that takes over ${MOST_OVERRUN} times --seconds ${seconds}`,
  );
  lines.push(`best: ${amount(best.replicas, 'replica')} and ${amount(best.callers, 'caller')}, ${rate} requests/s`);
  return [table, ...lines].join('\n');
}

export function benchChart({ path, rows }: BenchReport): string {
  const bars = rows.map(
    ({ replicas, callers, throughput }): Bar => ({
      group: amount(replicas, 'replica'),
      label: amount(callers, 'caller'),
      value: throughput,
    }),
  );
  return barChart(path, 'requests per second', bars);
}

function amount(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
