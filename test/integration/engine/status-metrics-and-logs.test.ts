import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type EngineOptions, type InferenceEngine } from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { row, sampleOf, startSmall } from '../../support/engines/small-engine.js';
import { modelDirectory, scaleModel, slowRunModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const sample = (name: string, labels?: Record<string, string>) => sampleOf(engine, name, labels);

async function start(options?: EngineOptions): Promise<void> {
  engine = await startSmall(options);
}

afterEach(() => engine?.destroy());

describe('what can be seen', () => {
  it('status tells of deployments, replicas and models', async () => {
    await start();
    await engine.run('times-1', row(1));
    const { deployments, replicas, models } = engine.status();
    expect(deployments).toEqual({
      default: {
        state: 'healthy',
        ready: true,
        targetReplicas: 2,
        runningReplicas: 2,
        express: false,
        queued: 0,
        lastFailure: undefined,
        harmful: [],
      },
    });
    expect(replicas).toContainEqual(
      expect.objectContaining({
        state: 'running',
        completed: 1,
        models: [{ id: 'times-1', version: 1, state: 'loaded', wide: false, weights: 'private' }],
        modelBytes: models.find(({ id }) => id === 'times-1')?.bytes,
      }),
    );
    expect(models.find(({ id }) => id === 'times-1')?.replicas).toHaveLength(1);
  });

  it('metrics count requests, errors, loads and replicas', async () => {
    await start();
    await engine.run('times-1', row(1));
    await engine.run('times-1', row(1));
    await codeOf(engine.run('times-1', {}));
    expect(await sample('infermux_router_requests_total', { model: 'times-1' })).toBe(2);
    expect(await sample('infermux_request_errors_total', { code: 'INVALID_ARGUMENT' })).toBe(1);
    expect(await sample('infermux_get_model_requests_total')).toBe(2);
    expect(await sample('infermux_model_loads_total', { model: 'times-1' })).toBe(1);
    expect(await sample('infermux_replica_up')).toBe(2);
    expect(await sample('infermux_registered_model_id', { model: 'times-1' })).toBe(1);
    expect(await engine.metrics.metrics()).toContain(
      'infermux_run_duration_seconds_bucket{le="0.0001",model="times-1"}',
    );
  });

  it("metrics go to the caller's registry, one engine at a time, and without model labels on request", async () => {
    const registry = new Registry();
    await start({ registry, metrics: { modelLabels: false } });
    await engine.run('times-1', row(1));
    expect(await registry.metrics()).not.toContain('times-1');
    const second = createEngine({ registry, replicas: 1 });
    await expect(second).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    await engine.close();
    expect(registry.getMetricsAsArray()).toEqual([]);
    const third = await createEngine({ registry, replicas: 1 });
    await engine.destroy();
    expect(registry.getMetricsAsArray().length).toBeGreaterThan(10);
    await third.close();
  });

  it('logs tell the life of replicas and models', async () => {
    const lines: { msg: string; model?: string; state?: string; reason?: string }[] = [];
    await start({
      maxModelsPerReplica: 1,
      replicas: 1,
      logger: pino({ level: 'debug' }, { write: (line) => lines.push(JSON.parse(line)) }),
    });
    await engine.run('times-1', row(1));
    await engine.run('times-2', row(1));
    await engine.close();
    const told = lines.map(({ msg, model, state, reason }) => [msg, model ?? state, reason].filter(Boolean).join(' '));
    expect(told).toEqual([
      'replica changed state running',
      'model is loading times-1',
      'model loaded times-1',
      'model is loading times-2',
      'model unloaded times-1 evicted',
      'model loaded times-2',
      'replica changed state draining',
      'model unloaded times-2 shutdown',
      'replica changed state stopped',
    ]);
  });

  it('a logger that throws costs nothing but one warning', async () => {
    const fail = () => {
      throw new Error('disk full');
    };
    const warnings: string[] = [];
    const note = ({ message }: Error) => warnings.push(message);
    process.on('warning', note);
    await start({ logger: { debug: fail, info: fail, warn: fail, error: fail } as never });
    expect(await codeOf(engine.run('times-1', row(1)))).toBe('answered');
    await engine.close();
    process.off('warning', note);
    expect(warnings).toEqual(['infermux: options.logger failed: disk full']);
  });
});

describe('what is known of each model', () => {
  it('is how many requests wait for it and how many failed, in the metrics and in the status', async () => {
    const slow = modelDirectory({ slow: slowRunModel(30), 'times-1': scaleModel(1) });
    engine = await createEngine({ models: slow, replicas: 1, batching: false, maxOngoingRequests: 1 });
    const one = { x: { dims: [1], data: Float32Array.of(1) } };
    await engine.run('slow', one);
    const runs = Array.from({ length: 5 }, () => engine.run('slow', one));
    await engine.run('times-1', {}).catch(() => undefined);
    const of = (id: string) => engine.status().models.find((model) => model.id === id);
    expect(of('slow')?.queued).toBeGreaterThan(1);
    expect(of('slow')?.failed).toBe(0);
    const text = await engine.metrics.metrics();
    expect(text).toMatch(/^infermux_model_queued_requests\{model="slow"\} [1-4]$/m);
    await Promise.all(runs);
    const failing = engine.run('slow', { x: { dims: [1, 2, 3], data: new Float32Array(6) } });
    await failing.catch(() => undefined);
    await until(() => of('slow')?.queued === 0);
    await expect(engine.run('slow', one, { timeoutMs: 0 })).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    expect(of('slow')?.failed).toBeGreaterThan(0);
    expect(await engine.metrics.metrics()).toMatch(/^infermux_model_request_errors_total\{model="slow"\} [1-9]/m);
    expect(await engine.metrics.metrics()).toMatch(/^infermux_model_queued_requests\{model="slow"\} 0$/m);
  });

  it('buckets are those of the options', async () => {
    engine = await createEngine({
      models: { 'times-1': scaleModel(1) },
      replicas: 1,
      metrics: { buckets: [0.5, 1_000] },
    });
    await engine.run('times-1', row(1));
    const lines = (await engine.metrics.metrics())
      .split('\n')
      .filter((line) => line.startsWith('infermux_run_duration'));
    expect(lines.map((line) => /le="([^"]+)"/.exec(line)?.[1]).filter(Boolean)).toEqual(['0.5', '1000', '+Inf']);
  });
});
