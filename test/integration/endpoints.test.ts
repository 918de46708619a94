import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type EngineOptions, type InferenceEngine, type InfermuxError } from '../../dist/index.js';
import { modelDirectory, scaleModel, slowRunModel } from '../support/onnx-models.js';
import { SteadyLoad } from '../support/steady-load.js';
import { until } from '../support/until.js';

const models = modelDirectory({
  ...Object.fromEntries([1, 2, 3].map((factor) => [`times-${factor}`, scaleModel(factor)])),
  twin: scaleModel(1),
  slow: slowRunModel(40),
});

let engine: InferenceEngine;
let warnings: string[];

async function start(options: EngineOptions = {}): Promise<void> {
  warnings = [];
  const nothing = () => undefined;
  const warn = (fields: object, message: string) => warnings.push(`${message} ${JSON.stringify(fields)}`);
  const logger = { debug: nothing, info: nothing, warn, error: nothing } as never;
  engine = await createEngine({ models, replicas: 1, logger, ...options });
}

const row = (value = 1) => ({ x: { dims: [1, 4], data: Float32Array.of(value, 0, 0, 0) } });
const single = { x: { dims: [1], data: Float32Array.of(3) } };
const modelOf = async (target: string, options: object = {}) =>
  (await engine.infer({ target, feeds: row(), ...options })).model;
const refusal = (call: Promise<unknown>) =>
  call.then(String, ({ code, message }: InfermuxError) => `${code}: ${message}`);
const codeOf = (call: Promise<unknown>) =>
  call.then(
    () => 'answered',
    ({ code }: InfermuxError) => code,
  );

async function metric(name: string, labels: string): Promise<number> {
  const text = await engine.metrics.metrics();
  const line = text.split('\n').find((one) => one.startsWith(`infermux_${name}{${labels}}`));
  return line === undefined ? 0 : Number(line.split(' ').at(-1));
}

afterEach(() => engine?.destroy());

describe('traffic', () => {
  it('is shared by weight among models, versions and deployments', async () => {
    await start({ deployments: { other: {} } });
    await engine.endpoints.set('e', { traffic: { 'times-1@1': 0.5, 'other/times-2': 0.5 } });
    const results = await Promise.all(Array.from({ length: 400 }, () => engine.infer({ target: 'e', feeds: row() })));
    const [first, second] = ['default times-1', 'other times-2'].map(
      (wanted) => results.filter(({ deployment, model }) => `${deployment} ${model}` === wanted).length,
    );
    expect((first ?? 0) + (second ?? 0)).toBe(400);
    // Six standard deviations of 400 fair draws.
    expect(Math.abs((first ?? 0) - 200)).toBeLessThan(60);
    expect(await metric('endpoint_requests_total', 'endpoint="e"')).toBe(400);
  });

  it('sticks by shard key, as long as the weights stay', async () => {
    await start();
    await engine.endpoints.set('e', { traffic: { 'times-1': 0.5, 'times-2': 0.5 } });
    const keys = Array.from({ length: 40 }, (_, key) => `user-${key}`);
    const all = () => Promise.all(keys.map((shardKey) => modelOf('e', { shardKey })));
    const once = await all();
    expect(await all()).toEqual(once);
    expect(new Set(once).size).toBe(2);
  });

  it('changes for the next request, with no request lost under load', async () => {
    await start({ replicas: 2 });
    await engine.endpoints.set('e', { traffic: { 'times-1': 1 } });
    const load = new SteadyLoad(() => engine, ['e']);
    await until(() => load.answered > 50);
    for (const share of [0.9, 0.5, 0.1]) {
      await engine.endpoints.set('e', { traffic: { 'times-1': share, twin: 1 - share } });
      const before = load.answered;
      await until(() => load.answered > before + 50);
    }
    await engine.endpoints.set('e', { traffic: { twin: 1 } });
    expect(await modelOf('e')).toBe('twin');
    expect(await load.stop()).toEqual([]);
  });

  it('ends with the endpoint, and accepted requests are answered', async () => {
    await start();
    await engine.endpoints.set('e', { traffic: { slow: 1 } });
    const inFlight = Array.from({ length: 3 }, () => codeOf(engine.run('e', single)));
    await engine.endpoints.remove('e');
    expect(await codeOf(engine.run('e', single))).toBe('MODEL_NOT_FOUND');
    expect(await Promise.all(inFlight)).toEqual(['answered', 'answered', 'answered']);
    expect(engine.endpoints.list()).toEqual([]);
  });

  it('an endpoint named like a model stands before it, and a warning says so', async () => {
    await start();
    await engine.endpoints.set('times-1', { traffic: { 'times-2': 1 } });
    expect(await modelOf('times-1')).toBe('times-2');
    expect(await modelOf('times-1@1')).toBe('times-1');
    expect(warnings.join()).toContain('an endpoint is named like a model');
    await engine.endpoints.remove('times-1');
    expect(await modelOf('times-1')).toBe('times-1');
  });

  it('to a deployment that is gone is an error of the endpoint', async () => {
    await start({ deployments: { other: {} } });
    await engine.endpoints.set('e', { traffic: { 'other/times-1': 1 } });
    await (await engine.deployments.delete('other')).done;
    expect(await refusal(engine.run('e', row()))).toContain('FAILED_PRECONDITION: endpoint "e": no deployment "other"');
    expect(warnings.join()).toContain('an endpoint has a target in a deployment that is deleted');
    expect(await metric('endpoint_errors_total', 'endpoint="e"')).toBe(1);
  });
});

describe('a shadow', () => {
  it('gets a copy of its share, whose answer nobody sees', async () => {
    await start();
    await engine.endpoints.set('e', { traffic: { 'times-2': 1 }, shadow: { 'times-3': 1 } });
    const answers = await Promise.all(Array.from({ length: 20 }, (_, value) => engine.run('e', row(value))));
    expect(answers.map(({ y }) => y?.data[0])).toEqual(Array.from({ length: 20 }, (_, value) => 2 * value));
    expect(await metric('shadow_requests_total', 'endpoint="e",target="times-3"')).toBe(20);
    await until(() => engine.status().replicas[0]?.completed === 40);
    expect(await metric('shadow_errors_total', 'endpoint="e",target="times-3",code="QUEUE_FULL"')).toBe(0);
  });

  it('may fail, and its errors are counted as its own', async () => {
    await start();
    // It takes another rank: its copies are refused.
    await engine.endpoints.set('e', { traffic: { 'times-1': 1 }, shadow: { slow: 1 } });
    for (let request = 0; request < 5; request += 1) await engine.run('e', row());
    await until(() => engine.status().queued === 0 && engine.status().replicas[0]?.ongoing === 0);
    expect(await metric('shadow_errors_total', 'endpoint="e",target="slow",code="INVALID_ARGUMENT"')).toBe(5);
    expect(await metric('endpoint_errors_total', 'endpoint="e"')).toBe(0);
    expect(await metric('request_errors_total', 'code="INVALID_ARGUMENT"')).toBe(0);
  });

  it('gets its own copy also of what is handed over', async () => {
    await start();
    await engine.endpoints.set('e', { traffic: { 'times-2': 1 }, shadow: { 'times-3': 1 } });
    const data = new Float32Array(4_000).fill(1);
    const { y } = await engine.run('e', { x: { dims: [1_000, 4], data } }, { transfer: true });
    expect([data.length, y?.data[0], y?.data.length]).toEqual([0, 2, 4_000]);
    await until(() => engine.status().replicas[0]?.completed === 2);
  });

  it('is dropped first when half of the places to wait are taken', async () => {
    await start({ maxQueuedRequests: 8 });
    await engine.endpoints.set('e', { traffic: { slow: 1 }, shadow: { 'default/slow': 1 } });
    await engine.run('slow', single);
    const calls = Array.from({ length: 8 }, () => codeOf(engine.run('e', single)));
    expect(await Promise.all(calls)).toEqual(Array(8).fill('answered'));
    const dropped = await metric('shadow_errors_total', 'endpoint="e",target="default/slow",code="QUEUE_FULL"');
    expect(dropped).toBeGreaterThanOrEqual(6);
  });
});

it('refusals name what was wrong', async () => {
  await start();
  const set = (name: unknown, options: unknown) => engine.endpoints.set(name as string, options as never);
  const expected: [Promise<unknown>, string][] = [
    [set('', { traffic: { 'times-1': 1 } }), "INVALID_ARGUMENT: an endpoint's name must be a non-empty string"],
    [set(7, { traffic: { 'times-1': 1 } }), "INVALID_ARGUMENT: an endpoint's name must be a non-empty string, got 7"],
    [set('e', { traffic: { none: 1 } }), 'MODEL_NOT_FOUND: no model "none"'],
    [set('e', { traffic: { 'none/times-1': 1 } }), 'FAILED_PRECONDITION: no deployment "none"'],
    [set('e', { traffic: { 'times-1': 0.5 } }), 'INVALID_ARGUMENT: endpoint "e".traffic must add up to 1'],
    [
      set('e', { traffic: { default: 1 } }),
      'deployment "default" has no handler: name one of its models, as "default/model"',
    ],
    [engine.endpoints.remove('none'), 'FAILED_PRECONDITION: no endpoint "none"; there are: none'],
    [
      engine.run('times-1', row(), { shardKey: '' }),
      'INVALID_ARGUMENT: runOptions.shardKey must be a non-empty string',
    ],
  ];
  const refusals = await Promise.all(expected.map(([call]) => refusal(call)));
  for (const [index, [, message]] of expected.entries()) expect(refusals[index]).toContain(message);
  await set('e', { traffic: { 'times-1': 1 } });
  expect(await refusal(engine.run('e', row(), { deployment: 'default' }))).toContain('"e" is an endpoint');
  expect(await refusal(engine.run('f', row()))).toMatch(/no model "f"; known models: .*; endpoints: "e"/);
});
