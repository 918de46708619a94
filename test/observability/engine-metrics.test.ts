import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Registry } from 'prom-client';
import { beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../dist/common/clock.js';
import { EngineMetrics } from '../../dist/observability/engine-metrics.js';
import { FakeMetricsSource } from '../support/fakes/fake-metrics-source.js';

const MANY = 10_000;
const ids = Array.from({ length: MANY }, (_, index) => `customer-${index}`);
const LABELLED_BY_MODEL = /^infermux_\w+\{[^}]*model="([^"]*)"/;

let source: FakeMetricsSource;

beforeEach(() => {
  source = new FakeMetricsSource();
});

function start({ registry, maxModels = 200 }: { registry?: Registry; maxModels?: number } = {}): EngineMetrics {
  return new EngineMetrics(source, {
    registry,
    modelLabels: true,
    triton: false,
    maxModels,
    buckets: [0.001, 0.01, 1],
    clock: systemClock,
  });
}

/** One request of the model, that was loaded for it and ran in a batch of three. */
function use(metrics: EngineMetrics, model: string): void {
  metrics.deploymentRequests('default').sum += 1;
  metrics.requestAccepted(model);
  metrics.sessions.asked('default-0', 1);
  metrics.requestWaited(0.1);
  metrics.sessions.loaded('default-0', model, 'onnx', 3);
  metrics.sessions.loaded('default-1', model, 'onnx', 3);
  metrics.called(model, 3, false);
  metrics.batchVerificationFailed(model);
  metrics.requestAnswered(model, { queueMs: 1, loadMs: 0.5, runMs: 1.2, totalMs: 3.4 });
  metrics.modelRequestFailed(model);
  metrics.sessions.unloaded('default-0', 'evicted', 1, 10);
}

function modelsIn(text: string): Set<string> {
  return new Set(text.split('\n').flatMap((line) => LABELLED_BY_MODEL.exec(line)?.[1] ?? []));
}

/** Sums of the samples by metric; a gauge may go down. */
async function sums(metrics: EngineMetrics): Promise<Map<string, number>> {
  const all = await metrics.registry.getMetricsAsJSON();
  return new Map(
    all
      .filter(({ type }) => String(type) !== 'gauge')
      .map(({ name, values }) => [name, values.reduce((sum, { value }) => sum + value, 0)]),
  );
}

/** Resolves to the milliseconds of the turns of the event loop while the work goes on. */
async function turnsDuring(work: () => Promise<unknown>): Promise<number[]> {
  const turns: number[] = [];
  let isOver = false;
  let last = performance.now();
  const note = () => {
    const now = performance.now();
    turns.push(now - last);
    last = now;
    if (!isOver) setImmediate(note);
  };
  setImmediate(note);
  await work();
  isOver = true;
  return turns;
}

/** The longest turn of the work. What the machine or the collector adds to a turn by chance is not in each repetition. */
async function longestTurn(work: () => Promise<unknown>): Promise<number> {
  const repetitions: number[][] = [];
  for (let repetition = 0; repetition < 12; repetition += 1) repetitions.push(await turnsDuring(work));
  const [first = []] = repetitions;
  return Math.max(...first.map((_, turn) => Math.min(...repetitions.map((turns) => turns[turn] ?? 0))));
}

describe('metrics of ten thousand models', () => {
  it('have series of 200 models and the others, and are at most a megabyte', async () => {
    const metrics = start();
    source.resident = ids;
    for (const id of ids) use(metrics, id);
    const text = await metrics.registry.metrics();
    expect(modelsIn(text).size).toBe(201);
    expect(text).toContain('infermux_router_requests_total{model="(other)"} 9800\n');
    expect(text.length).toBeLessThan(800_000);
  });

  it('are hardly more with long ids', async () => {
    const metrics = start();
    source.resident = ids.map((id) => id.padEnd(255, 'x'));
    for (const id of source.resident) use(metrics, id);
    const text = await metrics.registry.metrics();
    expect(modelsIn(text).size).toBe(201);
    expect(text.length).toBeLessThan(1_500_000);
  });

  it.each(['metrics', 'getMetricsAsJSON'] as const)('%s leaves the event loop to others', async (method) => {
    const metrics = start();
    source.resident = ids;
    for (const id of ids) use(metrics, id);
    expect(await longestTurn(() => metrics.registry[method]())).toBeLessThan(5);
  });

  it("each metric is a turn of the event loop of its own in a caller's registry", async () => {
    const registry = new Registry();
    const metrics = start({ registry });
    for (const id of ids) use(metrics, id);
    const turns = await turnsDuring(() => registry.metrics());
    expect(turns.length).toBeGreaterThanOrEqual(registry.getMetricsAsArray().length);
    expect(await longestTurn(() => registry.metrics())).toBeLessThan(15);
  });

  it("are written in pieces, and the text is prom-client's", async () => {
    const metrics = start({ maxModels: 1_000 });
    const [odd, plain] = ['quo"te\\and\nline', new Registry()];
    for (const id of [...ids.slice(0, 2_000), odd]) use(metrics, id);
    use(metrics, odd);
    for (const { name } of metrics.registry.getMetricsAsArray()) {
      plain.registerMetric(metrics.registry.getSingleMetric(name) as never);
    }
    expect(await metrics.registry.metrics()).toBe(await plain.metrics());
    for (const registry of [plain, metrics.registry]) {
      registry.setDefaultLabels({ zone: 'a' });
      registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never);
    }
    const text = await metrics.registry.metrics();
    expect(text).toBe(await plain.metrics());
    expect(text.endsWith('# EOF\n')).toBe(true);
  });

  it('leave nothing in memory but what is bounded', async () => {
    const metrics = start();
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const heap = () => {
      collect();
      return process.memoryUsage().heapUsed;
    };
    for (let index = 0; index < 20_000; index += 1) use(metrics, `warm-${index}`);
    const before = heap();
    for (let index = 0; index < 100_000; index += 1) use(metrics, `more-${index}`);
    expect(heap() - before).toBeLessThan(4_000_000);
  });
});

describe('series of things that are gone', () => {
  it('go to (other), for each label, and no sum goes down', async () => {
    const metrics = start();
    source.deploymentNames = ['default', 'blue'];
    source.replicaIds = ['default-0', 'blue-0'];
    source.shadows = { public: ['blue/m', 'm'], other: ['m'] };
    source.models = new Set(['m', 'n', '(handler)']);
    for (const model of ['m', 'n']) use(metrics, model);
    metrics.deploymentRequests('blue').sum += 1;
    metrics.deploymentError('blue');
    metrics.routerFailed('blue', 'threw');
    metrics.replicaRestarted('blue-0');
    metrics.sessions.loadFailed('blue-0', 'onnx', 'MODEL_LOAD_FAILED');
    metrics.sessions.unloaded('blue-0', 'expired', 1, 1);
    for (const endpoint of ['public', 'other']) {
      metrics.endpointRequest(endpoint);
      metrics.endpointError(endpoint);
      metrics.shadowRequest(endpoint, 'm');
      metrics.shadowError(endpoint, 'm', 'QUEUE_FULL');
    }
    metrics.shadowRequest('public', 'blue/m');
    const before = await sums(metrics);

    source.deploymentNames = ['default'];
    source.replicaIds = ['default-0'];
    source.shadows = { other: [], third: ['m'] };
    source.models = new Set(['m']);
    const text = await metrics.registry.metrics();
    expect(text.split('\n').filter((line) => /blue|public|target="m"|model="n"/.test(line))).toEqual([]);
    expect(text).toContain('infermux_shadow_requests_total{endpoint="(other)",target="(other)"} 2\n');
    expect(text).toContain('infermux_shadow_requests_total{endpoint="other",target="(other)"} 1\n');
    expect(text).toContain(
      'infermux_load_model_exceptions_total{replica="(other)",type="onnx",code="MODEL_LOAD_FAILED"} 1',
    );
    expect(text).toContain('infermux_model_loads_total{replica="default-0",model="(other)"} 1\n');
    expect(await sums(metrics)).toEqual(before);
  });

  it('stay as they are when the engine is closed', async () => {
    const metrics = start();
    use(metrics, 'm');
    metrics.close();
    source.replicaIds = [];
    source.models = new Set();
    const text = await metrics.registry.metrics();
    expect(text).toContain('infermux_model_loads_total{replica="default-0",model="m"} 1');
  });
});

it('sessions that are loading count apart from loaded ones, and take no bytes', async () => {
  const metrics = start();
  source.replicaIds = ['default-0'];
  source.resident = ['a', 'b'];
  source.loading = ['c'];
  const text = await metrics.registry.metrics();
  expect(text).toContain('infermux_loaded_models{type="onnx"} 2\n');
  expect(text).toContain('infermux_total_loaded_models_size_bytes{type="onnx"} 20\n');
  expect(text).toContain('infermux_loading_models{type="onnx"} 1\n');
});

describe('labels', () => {
  it('are no codes but those of the engine: a handler may throw errors with any', async () => {
    const metrics = start();
    for (let index = 0; index < 1_000; index += 1) {
      metrics.requestFailed(`code-${index}` as never);
      metrics.shadowError('public', 'm', `code-${index}` as never);
      metrics.sessions.loadFailed('default-0', 'handler', 'constructor' as never);
    }
    metrics.requestFailed('QUEUE_FULL');
    source.shadows = { public: ['m'] };
    const text = await metrics.registry.metrics();
    const lines = text.split('\n').filter((line) => line.includes('code='));
    expect(lines).toEqual([
      'infermux_request_errors_total{code="(other)"} 1000',
      'infermux_request_errors_total{code="QUEUE_FULL"} 1',
      expect.stringContaining('infermux_shadow_errors_total'),
      'infermux_load_model_exceptions_total{replica="default-0",type="handler",code="(other)"} 1000',
    ]);
  });

  it('of a gauge are those of models with series of their own, and (other) for the rest', async () => {
    const metrics = start({ maxModels: 1 });
    metrics.requestAccepted('a');
    source.replicaIds = ['default-0'];
    source.resident = ['a', 'b', 'c', '(other)'];
    const text = await metrics.registry.getSingleMetricAsString('infermux_registered_model_id');
    expect(text.split('\n').slice(2)).toEqual([
      'infermux_registered_model_id{replica="default-0",model="a"} 1',
      'infermux_registered_model_id{replica="default-0",model="(other)"} 3',
    ]);
  });
});
