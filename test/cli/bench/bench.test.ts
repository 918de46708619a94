import { availableParallelism } from 'node:os';
import { expect, it } from 'vitest';
import { type BenchOptions, type BenchRow, benchModel } from '../../../dist/cli/bench/bench.js';
import { benchChart, benchTable } from '../../../dist/cli/bench/bench-table.js';
import { directory } from '../../support/directories.js';
import { scaleModel } from '../../support/onnx-models.js';

const path = `${directory({ 'a.onnx': scaleModel(2) })}/a.onnx`;

const bench = async (options: Partial<BenchOptions>) => {
  const progress: string[] = [];
  const signs = { begins: () => undefined, progress: (done: number, all: number) => progress.push(`${done}/${all}`) };
  const given = { path, shapes: new Map(), callers: [1], replicas: [1], seconds: 0.01, ...options };
  return { ...(await benchModel(given, signs)), progress };
};

const row = (threads: BenchRow['threads'], callers: number, throughput: number): BenchRow => ({
  ...{ replicas: 2, threads, callers, throughput, batchSize: 1 },
  ...{ p50: 1, p95: 1, p99: 1, loopDelayP99: 0 },
});

it('tries auto, one thread, and the cores divided by the replicas', async () => {
  const cores = availableParallelism();
  const { rows, progress } = await bench({ replicas: [1, cores] });
  const settings = [...new Set(['auto', 1, cores])].map((threads) => [1, threads]);
  expect(rows.map(({ replicas, threads }) => [replicas, threads])).toEqual([
    ...settings,
    ...['auto', 1].map((threads) => [cores, threads]),
  ]);
  expect(progress).toEqual(rows.map((_, index) => `${index + 1}/${rows.length}`));
}, 20_000);

it('tries the threads that it is told, with every number of callers, and names the best for each', async () => {
  const { rows, bestAt, best } = await bench({ callers: [1, 4], threads: [2, 'auto'] });
  const places = rows.map(({ threads, callers }) => [threads, callers]);
  expect(places).toEqual([2, 'auto'].flatMap((threads) => [1, 4].map((callers) => [threads, callers])));
  const most = (all: readonly BenchRow[]) => Math.max(...all.map(({ throughput }) => throughput));
  expect(bestAt.map(({ callers, throughput }) => [callers, throughput])).toEqual(
    [1, 4].map((count) => [count, most(rows.filter(({ callers }) => callers === count))]),
  );
  expect(best.throughput).toBe(most(rows));
}, 20_000);

it('says which threads are best at each number of callers, and what auto reaches beside', () => {
  const rows = [row('auto', 1, 99), row('auto', 16, 80), row(1, 1, 40), row(1, 16, 100)];
  const [one, , , many] = rows as [BenchRow, BenchRow, BenchRow, BenchRow];
  const skipped = [{ replicas: 1, threads: 4, callers: 256, throughput: 7 }];
  const whyNotBatched = 'it has no inputs';
  const report = { path, seconds: 1, rows, skipped, whyNotBatched, bestAt: [one, many], best: many };
  expect(benchTable(report).split('\n').slice(-5)).toEqual([
    'not measured: 1 replica, 4 threads and 256 callers: at 7.0 requests/s that takes over 10 times --seconds 1',
    'requests are not batched: it has no inputs',
    'best with 1 caller: 2 replicas, auto threads, 99 requests/s',
    'best with 16 callers: 2 replicas, 1 thread, 100 requests/s; auto reaches 80 % of it',
    'best: 2 replicas, 1 thread and 16 callers, 100 requests/s',
  ]);
  const chart = benchChart(report);
  for (const text of ['2 replicas, auto threads', '2 replicas, 1 thread', '16 callers']) expect(chart).toContain(text);
});
