import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, Feeds, InferenceEngine, InfermuxError } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { row, startDeployments } from '../../support/engines/deployments-engine.js';
import { scaleModel } from '../../support/onnx-models.js';

let engine: InferenceEngine;

async function start(options: EngineOptions = {}): Promise<void> {
  ({ engine } = await startDeployments(options));
}

const outcome = (promise: Promise<unknown>) =>
  promise.then(
    () => 'done',
    ({ code, message }: InfermuxError) => `${code}: ${message}`,
  );

/** Longer than a test may take: a wake-up that is lost fails it. */
const wait = { waitForCapacityMs: 60_000 };

const firstOf = async (answer: Promise<unknown>) =>
  ((await answer) as Record<string, { data: number[] }>)['y']?.data[0];

async function count(name: string, labels: object = {}): Promise<number> {
  const { values } = (await engine.metrics.getSingleMetric(name)?.get()) ?? { values: [] };
  return values
    .filter((value) => Object.entries(labels).every(([label, wanted]) => value.labels[label] === wanted))
    .reduce((sum, { value }) => sum + value, 0);
}

afterEach(() => engine?.destroy());

describe('waitForCapacityMs', () => {
  it('lets a request wait for a deployment, its first replica, or an endpoint', async () => {
    await start({ deployments: { none: { replicas: 0 } } });
    const feeds = row(3);
    const answers = [
      engine.run('late/times-2', feeds, wait),
      engine.run('none/times-2', feeds, wait),
      engine.run('e', feeds, wait),
      engine.infer({ target: 'times-2', feeds, deployment: 'late', ...wait }),
    ];
    // The engine owns the feeds by now.
    feeds.x.data.fill(0);
    await engine.deployments.create('late', {});
    await engine.deployments.update('none', { replicas: 1 });
    await engine.endpoints.set('e', { traffic: { 'times-2': 1 } });
    const [first, second, third, fourth] = (await Promise.all(answers)) as never as Record<
      string,
      { data: number[] }
    >[];
    expect([first, second, third].map((outputs) => outputs?.['y']?.data[0])).toEqual([6, 6, 6]);
    expect(fourth).toMatchObject({ outputs: { y: { dims: [1, 4] } } });
  });

  it('ends in vain with what would have been said at once, at a time-out or a signal with that', async () => {
    await start();
    const soon = { waitForCapacityMs: 30 };
    expect(await outcome(engine.run('none/times-1', row(1), soon))).toContain(
      'FAILED_PRECONDITION: no deployment "none"',
    );
    expect(await outcome(engine.run('none', row(1), soon))).toContain('MODEL_NOT_FOUND: no model "none"');
    expect(await outcome(engine.run('none/times-1', row(1)))).toContain('FAILED_PRECONDITION');
    expect(await outcome(engine.run('none/times-1', row(1), { ...wait, timeoutMs: 30 }))).toContain(
      'DEADLINE_EXCEEDED',
    );
    const controller = new AbortController();
    const cancelled = engine.run('none/times-1', row(1), { ...wait, signal: controller.signal });
    controller.abort();
    expect(await outcome(cancelled)).toContain('CANCELLED');
    const closed = outcome(engine.run('none/times-1', row(1), wait));
    await engine.close();
    expect(await closed).toContain('ENGINE_CLOSED');
  });

  it('is bounded like other waiting requests, and no wait hides what is wrong with a request', async () => {
    await start({ maxQueuedRequests: 2 });
    const waiting = [1, 2].map(() =>
      engine.run('none/times-1', row(1), { waitForCapacityMs: 100 }).catch(({ code }) => code),
    );
    expect(await outcome(engine.run('none/times-1', row(1), wait))).toContain('QUEUE_FULL');
    expect(await Promise.all(waiting)).toEqual(['FAILED_PRECONDITION', 'FAILED_PRECONDITION']);
    expect(await outcome(engine.run('times-1', {}, wait))).toContain('INVALID_ARGUMENT');
    expect(await outcome(engine.run('times-1', row(1), { waitForCapacityMs: -1 }))).toContain('waitForCapacityMs');
  });

  it('hears of a change that comes while it is being looked for', async () => {
    await start();
    const answers = Array.from({ length: 20 }, () => engine.run('early', row(3), wait));
    await engine.endpoints.set('early', { traffic: { 'times-2': 1 } });
    expect(await Promise.all(answers.map(firstOf))).toEqual(Array(20).fill(6));
    const model = engine.run('later', row(3), wait);
    await engine.models.register('later', scaleModel(5));
    expect(await firstOf(model)).toBe(15);
  });

  it('lets requests of handlers, streams and given arrays wait for what nobody knows yet', async () => {
    await start();
    const file = join(
      directory({
        'h.mjs': `export const handle = (request) =>
          typeof request === 'number' ? 2 * request : (async function* () { yield* request; })();`,
      }),
      'h.mjs',
    );
    const given = row(4);
    const answers = [engine.run<number>('h', 21, wait), engine.run('e', given, { ...wait, transfer: true })] as const;
    const stream = engine.stream<number>('h', [1, 2, 3], wait);
    const items = (async () => {
      const all: number[] = [];
      for await (const item of stream) all.push(item);
      return all;
    })();
    await engine.deployments.create('h', { handler: file });
    await engine.endpoints.set('e', { traffic: { 'times-2': 1 } });
    expect([await answers[0], await firstOf(answers[1]), await items]).toEqual([42, 8, [1, 2, 3]]);
  });

  it('gives a model what its feeds were when the request was made, whatever they are', async () => {
    await start();
    const shared = new Float32Array(new SharedArrayBuffer(16)).fill(3);
    const tensor = new ort.Tensor('float32', new Float32Array(4).fill(4), [1, 4]);
    const lent = engine.allocate('float32', [1, 4]);
    (lent.data as Float32Array).fill(5);
    const odd = { ...row(6).x, toString: () => 'no clone of a function' };
    const all = [{ data: shared, dims: [1, 4] }, tensor, lent, odd] as never as Feeds[string][];
    const answers = all.map((x) => engine.run('e', { x } as Feeds, wait));
    for (const { data } of all as { data: Float32Array }[]) data.fill(9);
    await engine.endpoints.set('e', { traffic: { 'times-2': 1 } });
    expect(await Promise.all(answers.map(firstOf))).toEqual([6, 8, 10, 12]);
    expect(await outcome(engine.run('other', { x: () => 0 } as never, wait))).toContain('INVALID_ARGUMENT');
  });

  it('makes one request of it: one shadow, one count', async () => {
    await start();
    await engine.models.register('gone', scaleModel(2));
    await engine.endpoints.set('e', { traffic: { gone: 1 }, shadow: { 'times-1': 1 } });
    await engine.models.unregister('gone');
    const answer = engine.run('e', row(1), wait);
    for (const id of ['a', 'b', 'c']) await engine.models.register(id, scaleModel(1));
    await engine.models.register('gone', scaleModel(7));
    expect(await firstOf(answer)).toBe(7);
    expect(await count('infermux_endpoint_requests_total', { endpoint: 'e' })).toBe(1);
    expect(await count('infermux_shadow_requests_total')).toBe(1);
    expect(await count('infermux_request_errors_total')).toBe(0);
  });

  it('waits for the target that its endpoint has chosen, and goes where the endpoint leads then', async () => {
    await start({ deployments: { none: { replicas: 1 } } });
    await engine.endpoints.set('e', { traffic: { 'none/times-1': 0.5, 'times-2': 0.5 } });
    await engine.deployments.update('none', { replicas: 0 });
    const answers = Array.from({ length: 40 }, () => engine.run('e', row(1), wait));
    await engine.endpoints.set('e', { traffic: { 'times-2': 1 } });
    expect(new Set(await Promise.all(answers.map(firstOf)))).toEqual(new Set([2]));
  });

  it('counts what has waited in vain, and the time-out of the deployment is for the wait, too', async () => {
    await start({ deployments: { none: { replicas: 0, defaultTimeoutMs: 30 } } });
    expect(await outcome(engine.run('none/times-1', row(1), wait))).toContain('DEADLINE_EXCEEDED');
    expect(await outcome(engine.run('e', row(1), { waitForCapacityMs: 30 }))).toContain('MODEL_NOT_FOUND');
    const controller = new AbortController();
    const cancelled = outcome(engine.run('e', row(1), { ...wait, signal: controller.signal }));
    controller.abort();
    expect(await cancelled).toContain('CANCELLED');
    const codes = ['DEADLINE_EXCEEDED', 'MODEL_NOT_FOUND', 'CANCELLED'];
    const counts = codes.map((code) => count('infermux_request_errors_total', { code }));
    expect(await Promise.all(counts)).toEqual([1, 1, 1]);
  });

  it('is not for requests within those of handlers, which keep a place meanwhile', async () => {
    const handler = join(
      directory({
        'h.mjs': `export const handle = (target, { engine }) => engine.run(target, {}, { waitForCapacityMs: 1 });`,
      }),
      'h.mjs',
    );
    await start({ deployments: { h: { handler } } });
    expect(await outcome(engine.run('h' as string, 'times-1' as never))).toContain(
      'waitForCapacityMs is for engine.run',
    );
  });
});
