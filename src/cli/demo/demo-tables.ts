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

function speedTable({ callers, models, withFewPlaces: few, ...all }: DemoReport): string {
  const speeds = [all, few];
  return renderTable(
    ['', `room for ${models.length} models in each replica`, `room for ${few.modelsPerReplica}`],
    [
      ['requests', ...speeds.map(({ requests, seconds }) => `${requests} in ${seconds} s, ${callers} callers`)],
      ['requests per second', ...speeds.map(({ requestsPerSecond }) => requestsPerSecond)],
      ['latency p50 / p95 / p99', ...speeds.map(({ latencyMs }) => milliseconds(latencyMs))],
      ['event-loop delay p50 / p95 / p99', ...speeds.map(({ eventLoopDelayMs }) => milliseconds(eventLoopDelayMs))],
    ],
  );
}

function replicaTable({ withFewPlaces: { replicas, modelsPerReplica } }: DemoReport): string {
  return renderTable(
    [`replica, room for ${modelsPerReplica}`, 'requests', 'found its model', 'waited for a load', 'loads', 'evictions'],
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
function hint({ models, withFewPlaces: { modelsPerReplica } }: DemoReport): string {
  return `${models.length} models, ${modelsPerReplica} places in each replica: so they load and evict all the time, and several requests wait for each load.`;
}
