import { afterEach, expect, it } from 'vitest';
import { createEngine, type InferenceEngine } from '../../dist/index.js';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';

let engine: InferenceEngine | undefined;
afterEach(() => engine?.close());

const x = { dims: [1, 4], data: Float32Array.of(1, 2, 3, 4) };

async function samples(name: string): Promise<ReadonlyMap<string | undefined, number>> {
  const text = (await engine?.metrics.metrics()) ?? '';
  const found = [...text.matchAll(new RegExp(`^${name}(?:\\{model="([^"]*)"\\})? (\\S+)$`, 'gm'))];
  return new Map(found.map(([, model, value]) => [model, Number(value)]));
}
const of = async (name: string, model = 'times-2') => (await samples(`nv_inference_${name}`)).get(model);

it('the counts of models are there under the names of Triton, if that is wanted', async () => {
  const models = modelDirectory({ 'times-2': scaleModel(2) });
  engine = await createEngine({ models, replicas: 1, metrics: { triton: true } });
  await Promise.all(Array.from({ length: 20 }, () => engine?.run('times-2', { x })));
  await expect(engine.run('times-2', { x: { dims: [1, 3], data: new Float32Array(3) } })).rejects.toThrow();
  expect(await of('request_success')).toBe(20);
  expect(await of('count')).toBe(20);
  expect(await of('request_failure')).toBe(1);
  const calls = (await of('exec_count')) as number;
  expect(calls).toBeGreaterThanOrEqual(1);
  // Requests that come together share calls.
  expect(calls).toBeLessThan(20);
  const parts = ['queue', 'compute_input', 'compute_infer', 'compute_output'];
  const times = await Promise.all(parts.map((part) => of(`${part}_duration_us`)));
  const total = (await of('request_duration_us')) as number;
  expect(times.reduce<number>((sum, time) => sum + (time as number), 0)).toBeCloseTo(total, -1);
  for (const time of times) expect(time).toBeGreaterThan(0);
  expect(await samples('nv_inference_pending_request_count')).toStrictEqual(new Map([['times-2', 0]]));
});

it('they are not there by default', async () => {
  engine = await createEngine({ models: modelDirectory({ 'times-2': scaleModel(2) }), replicas: 1 });
  expect(await engine.metrics.metrics()).not.toContain('nv_inference');
});
