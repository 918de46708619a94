import { execFile, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { createEngine, type InferenceEngine } from '../../dist/index.js';
import { createServer, type InferenceServer } from '../../dist/server/index.js';
import { freePort } from '../support/cluster/hosts.js';
import { directory } from '../support/directories.js';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';

const DEPLOY = fileURLToPath(new URL('../../deploy', import.meta.url));
const RULES = join(DEPLOY, 'prometheus', 'infermux.yaml');
const DASHBOARD = join(DEPLOY, 'grafana', 'infermux.json');
const HANDLER = new URL('../support/concurrent-handler.mjs', import.meta.url);
const hasPrometheus = existsSync('/usr/bin/prometheus') && existsSync('/usr/bin/promtool');

interface Panel {
  readonly title: string;
  readonly type: string;
  readonly targets?: readonly { readonly expr: string }[];
  readonly gridPos: { readonly x: number; readonly w: number };
}
const { panels, templating } = JSON.parse(readFileSync(DASHBOARD, 'utf8')) as {
  panels: readonly Panel[];
  templating: { list: readonly { name: string; definition?: string }[] };
};
const queries = panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => ({ title, expr })));

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: Readonly<Record<string, string>>;
}
const { groups } = parse(readFileSync(RULES, 'utf8')) as { groups: readonly { rules: readonly Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);

let engine: InferenceEngine;
let server: InferenceServer;
beforeAll(async () => {
  const small = Object.fromEntries([1, 2, 3].map((factor) => [`times-${factor}`, scaleModel(factor)]));
  const models = modelDirectory({ ...small, broken: Uint8Array.of(8, 1, 2) });
  const deployments = { app: { handler: HANDLER, replicas: 1 } };
  engine = await createEngine({ models, replicas: 1, maxModelsPerReplica: 1, deployments });
  await engine.endpoints.set('public', { traffic: { 'times-1': 1 }, shadow: { 'times-2': 1 } });
  server = await createServer(engine, { http: { port: 0 }, grpc: false });
});
afterAll(async () => {
  await server.close({ graceMs: 1_000 });
  await engine.close();
});

const feeds = { x: { dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) } };

/** Does a little of everything that is measured. */
async function makeTraffic(): Promise<void> {
  const calls = ['times-1', 'times-2', 'times-3', 'public', 'broken', 'nobody'].map((target) =>
    engine.run(target, feeds),
  );
  await Promise.allSettled([...calls, engine.run('public', {})]);
}

describe('the dashboard and the alerts', () => {
  it('name metrics that there are', () => {
    const names = new Set(engine.metrics.getMetricsAsArray().map(({ name }) => name));
    const used = [...queries.map(({ expr }) => expr), ...rules.map(({ expr }) => expr)].flatMap(
      (expr) => expr.match(/infermux_\w+/g) ?? [],
    );
    expect(used.length).toBeGreaterThan(40);
    const unknown = used.filter((name) => !names.has(name) && !names.has(name.replace(/_(bucket|sum|count)$/, '')));
    expect(unknown).toStrictEqual([]);
  });

  it('fill the width of the page, and explain themselves', () => {
    expect(panels.every(({ gridPos }) => gridPos.x + gridPos.w <= 24)).toBe(true);
    const titles = panels.filter(({ type }) => type !== 'row').map(({ title }) => title);
    expect(new Set(titles).size).toBe(titles.length);
    expect(templating.list.map(({ name }) => name)).toStrictEqual(['datasource', 'job', 'model']);
    expect(rules.every(({ annotations }) => annotations['summary'] && annotations['description'])).toBe(true);
  });
});

describe.skipIf(!hasPrometheus)('with a real Prometheus', () => {
  it('every query of the dashboard has an answer', { timeout: 60_000 }, async () => {
    const port = await freePort();
    const place = directory({
      'prometheus.yml': stringify({
        global: { scrape_interval: '1s' },
        rule_files: [RULES],
        scrape_configs: [{ job_name: 'infermux', static_configs: [{ targets: [`127.0.0.1:${server.http?.port}`] }] }],
      }),
    });
    const flags = [`--config.file=${place}/prometheus.yml`, `--storage.tsdb.path=${place}/data`];
    const child = spawn('/usr/bin/prometheus', [...flags, `--web.listen-address=127.0.0.1:${port}`], {
      stdio: 'ignore',
    });
    const ended = new Promise((resolve) => child.on('close', resolve));
    const traffic = setInterval(() => void makeTraffic(), 100);
    try {
      await engine.run<unknown>('app', { do: 'exit', ms: 0 }).catch(() => undefined);
      const answer = async (expr: string) => {
        const query = expr.replaceAll('$__rate_interval', '10s').replaceAll(/"\$(job|model)"/g, '".*"');
        const url = `http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(query)}`;
        const response = await fetch(url).catch(() => undefined);
        const { status, error, data } = ((await response?.json()) ?? { status: 'not yet' }) as {
          status: string;
          error?: string;
          data?: { result: readonly { value: readonly [number, string] }[] };
        };
        if (status === 'error') throw new Error(`${expr}: ${error}`);
        return (data?.result ?? []).filter(({ value: [, value] }) => value !== 'NaN');
      };
      const withoutAnswer = async () => {
        const answers = await Promise.all(
          queries.map(async ({ title, expr }) => ((await answer(expr)).length > 0 ? [] : [`${title}: ${expr}`])),
        );
        return answers.flat();
      };
      await expect.poll(withoutAnswer, { timeout: 45_000, interval: 1_000 }).toStrictEqual([]);
    } finally {
      clearInterval(traffic);
      child.kill('SIGTERM');
      await ended;
    }
  });

  const series = (values: Readonly<Record<string, string>>) =>
    Object.entries(values).map(([name, text]) => ({ series: name, values: text }));
  const at = 'job="infermux", instance="a"';
  const calm = {
    [`infermux_model_unloads_total{${at}, reason="evicted"}`]: '0+1x60',
    [`infermux_get_model_requests_total{${at}}`]: '0+1000x60',
    [`infermux_queued_requests{${at}, deployment="default"}`]: '3x60',
    [`infermux_request_errors_total{${at}, code="QUEUE_FULL"}`]: '0+1x60',
    [`infermux_replica_restarts_total{${at}, replica="default-0"}`]: '1x60',
    [`infermux_deployment_running_replicas{${at}, deployment="default"}`]: '4x60',
    [`infermux_deployment_target_replicas{${at}, deployment="default"}`]: '4x60',
    [`infermux_load_model_exceptions_total{${at}, code="MODEL_LOAD_FAILED"}`]: '1x60',
    [`infermux_killing_requests_total{${at}, deployment="default"}`]: '0x60',
  };
  const trouble: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    InfermuxThrashing: { [`infermux_model_unloads_total{${at}, reason="evicted"}`]: '0+400x60' },
    InfermuxQueueGrows: { [`infermux_queued_requests{${at}, deployment="default"}`]: '0+20x60' },
    InfermuxRequestsRefused: { [`infermux_request_errors_total{${at}, code="QUEUE_FULL"}`]: '0+600x60' },
    InfermuxReplicaRestarts: { [`infermux_replica_restarts_total{${at}, replica="default-0"}`]: '0+1x60' },
    InfermuxReplicasMissing: { [`infermux_deployment_running_replicas{${at}, deployment="default"}`]: '3x60' },
    InfermuxLoadFailures: { [`infermux_load_model_exceptions_total{${at}, code="MODEL_LOAD_FAILED"}`]: '0+1x60' },
    InfermuxHarmfulRequests: { [`infermux_killing_requests_total{${at}, deployment="default"}`]: '0+1x60' },
  };

  /** Resolves to the alerts that fire within an hour of these series. */
  async function firing(values: Readonly<Record<string, string>>): Promise<string[]> {
    const fired: string[] = [];
    for (const { alert } of rules) {
      const test = {
        rule_files: [RULES],
        evaluation_interval: '1m',
        tests: [
          {
            interval: '1m',
            input_series: series(values),
            alert_rule_test: [{ eval_time: '40m', alertname: alert, exp_alerts: [] }],
          },
        ],
      };
      const file = join(directory({ 'test.yaml': stringify(test) }), 'test.yaml');
      const isQuiet = await new Promise((resolve) =>
        execFile('/usr/bin/promtool', ['test', 'rules', file], (error) => resolve(error === null)),
      );
      if (!isQuiet) fired.push(alert);
    }
    return fired;
  }

  it('no alert fires while all is well', async () => expect(await firing(calm)).toStrictEqual([]));

  // The series of a rare event does not exist before the first one.
  const first: Readonly<Record<string, Readonly<Record<string, string>>>> = {
    InfermuxReplicaRestarts: Object.fromEntries(
      [1, 2, 3].map((id) => [`infermux_replica_restarts_total{${at}, replica="default-${id}"}`, '_x35 1x20']),
    ),
    InfermuxLoadFailures: { [`infermux_load_model_exceptions_total{${at}, code="INTERNAL"}`]: '_x35 1x20' },
    InfermuxHarmfulRequests: { [`infermux_killing_requests_total{${at}, deployment="other"}`]: '_x35 1x20' },
  };
  it.each(Object.entries(first))('%s fires for the first events there are', async (alert, values) => {
    expect(await firing({ ...calm, ...values })).toStrictEqual([alert]);
  });

  it.each(Object.entries(trouble))('%s fires when it should, and no other alert', async (alert, values) => {
    expect(rules.map((rule) => rule.alert)).toStrictEqual(Object.keys(trouble));
    expect(await firing({ ...calm, ...values })).toStrictEqual([alert]);
  });
});
