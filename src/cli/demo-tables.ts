import Table from 'cli-table3';
import colors from 'picocolors';
import type { DemoReport, Percentiles } from './demo.js';

/** The demo's report as tables for a terminal. */
export function demoTables(report: DemoReport): string {
  return [modelTable(report), speedTable(report), replicaTable(report), hint(report)].join('\n');
}

function modelTable({ models }: DemoReport): string {
  return render(
    ['model', 'requests', 'accuracy, unseen digits', 'accuracy, all'],
    models.map(({ id, requests, accuracyUnseen, accuracyAll }) => [
      id,
      requests,
      percent(accuracyUnseen),
      percent(accuracyAll),
    ]),
  );
}

function speedTable({
  requests,
  seconds,
  requestsPerSecond,
  callers,
  latencyMs,
  eventLoopDelayMs,
}: DemoReport): string {
  return render(
    ['', ''],
    [
      ['requests', `${requests} in ${seconds} s, ${callers} callers`],
      ['requests per second', requestsPerSecond],
      ['latency p50 / p95 / p99', milliseconds(latencyMs)],
      ['event-loop delay p50 / p95 / p99', milliseconds(eventLoopDelayMs)],
    ],
  );
}

function replicaTable({ replicas }: DemoReport): string {
  return render(
    ['replica', 'requests', 'found its model', 'waited for a load', 'loads', 'evictions'],
    replicas.map(({ id, requests, cacheHits, cacheMisses, loads, evictions }) => [
      id,
      requests,
      cacheHits,
      cacheMisses,
      loads,
      evictions,
    ]),
  );
}

/** Otherwise the last table would look like a cache that does not work. */
function hint({ models, modelsPerReplica }: DemoReport): string {
  return `${models.length} models, ${modelsPerReplica} places in each replica: so they load and evict all the time, and several requests wait for each load.
With maxModelsPerReplica: ${models.length} each replica would load each model once.`;
}

function render(head: string[], rows: (string | number)[][]): string {
  const hasHead = head.some((name) => name !== '');
  const table = new Table({
    ...(hasHead ? { head: head.map((name) => colors.bold(name)) } : {}),
    colAligns: head.map((_, column) => (column === 0 ? 'left' : 'right')),
    style: { head: [], border: [] },
  });
  table.push(...rows);
  return table.toString();
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}

function milliseconds({ p50, p95, p99 }: Percentiles): string {
  return `${[p50, p95, p99].map((value) => value.toFixed(2)).join(' / ')} ms`;
}
