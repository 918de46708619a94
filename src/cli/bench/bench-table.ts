import Table from 'cli-table3';
import { type Bar, barChart } from '../terminal/bar-chart.js';
import { colors } from '../terminal/colors.js';
import { type BenchReport, type BenchRow, type BenchSetting, MOST_OVERRUN } from './bench.js';

const BAR_WIDTH = 24;

export function benchTable({ seconds, rows, skipped, whyNotBatched, bestAt, best }: BenchReport): string {
  const head = ['replicas', 'threads', 'callers', 'requests/s', '', 'p50 ms', 'p95 ms', 'p99 ms', 'requests per call'];
  const table = new Table({ head, style: { head: [], border: [] } });
  for (const row of rows) {
    const bar = '█'.repeat(Math.max(1, Math.round((BAR_WIDTH * row.throughput) / best.throughput)));
    const cells = [
      row.replicas,
      row.threads,
      row.callers,
      rate(row),
      bar,
      row.p50.toFixed(3),
      row.p95.toFixed(3),
      row.p99.toFixed(3),
      row.batchSize.toFixed(1),
    ];
    table.push(bestAt.includes(row) ? cells.map((cell) => colors.bold(String(cell))) : cells);
  }
  const lines = skipped.map(
    ({ throughput, ...row }) =>
      `not measured: ${setting(row)} and ${amount(row.callers, 'caller')}: at ${throughput.toPrecision(2)} requests/s that takes over ${MOST_OVERRUN} times --seconds ${seconds}`,
  );
  if (whyNotBatched !== undefined) lines.push(`requests are not batched: ${whyNotBatched}`);
  lines.push(...bestAt.map((row) => bestLine(row, rows)));
  lines.push(`best: ${setting(best)} and ${amount(best.callers, 'caller')}, ${rate(best)} requests/s`);
  return [table, ...lines].join('\n');
}

/** Names the best setting at a number of callers, and what `auto` reaches there if that is another one. */
function bestLine(best: BenchRow, rows: readonly BenchRow[]): string {
  const auto = rows
    .filter(({ callers, threads }) => callers === best.callers && threads === 'auto')
    .reduce((most, { throughput }) => Math.max(most, throughput), 0);
  const share = `${((100 * auto) / best.throughput).toFixed(0)} %`;
  const beside = auto === 0 || best.threads === 'auto' ? '' : `; auto reaches ${share} of it`;
  return `best with ${amount(best.callers, 'caller')}: ${setting(best)}, ${rate(best)} requests/s${beside}`;
}

export function benchChart({ path, rows }: BenchReport): string {
  const bars = rows.map(
    (row): Bar => ({ group: setting(row), label: amount(row.callers, 'caller'), value: row.throughput }),
  );
  return barChart(path, 'requests per second', bars);
}

function rate({ throughput }: BenchRow): string {
  return Math.round(throughput).toLocaleString('en');
}

function setting({ replicas, threads }: BenchSetting): string {
  return `${amount(replicas, 'replica')}, ${threads === 'auto' ? 'auto threads' : amount(threads, 'thread')}`;
}

function amount(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
