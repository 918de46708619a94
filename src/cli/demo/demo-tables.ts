import { milliseconds, percent, renderTable } from '../terminal/tables.js';
import type { DemoReport } from './demo.js';

/** Returns the demo's report as tables for a terminal. */
export function demoTables(report: DemoReport): string {
  return [modelTable(report), speedTable(report), replicaTable(report), hint(report)].join('\n');
}

function modelTable({ models }: DemoReport): string {
  return renderTable(
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
  return renderTable(
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
  return renderTable(
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

/** Explains the last table, which looks as if the cache did not work. */
function hint({ models, modelsPerReplica, withRoomForAll: roomy }: DemoReport): string {
  return `${models.length} models, ${modelsPerReplica} places in each replica: so they load and evict all the time, and several requests wait for each load.
The same with maxModelsPerReplica: ${roomy.modelsPerReplica}: ${roomy.requestsPerSecond} requests per second, p50 / p95 / p99 ${milliseconds(roomy.latencyMs)}.`;
}
