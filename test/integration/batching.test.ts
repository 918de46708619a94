import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type EngineOptions, type InferenceEngine, type InfermuxError } from '../../dist/index.js';
import type { Tensor } from '../../dist/tensors/tensor.js';
import { identityModel, lookUpModel, mixingModel, modelDirectory, scaleModel } from '../support/onnx-models.js';
import { TENSOR_TYPES, tensorOf } from '../support/tensors.js';

const directory = modelDirectory({
  double: scaleModel(2),
  mixing: mixingModel(),
  'look-up': lookUpModel(),
  identity: identityModel(TENSOR_TYPES),
});

let engine: InferenceEngine;

async function start(options: EngineOptions = {}): Promise<InferenceEngine> {
  engine = await createEngine({ models: directory, replicas: 1, ...options });
  return engine;
}

afterEach(() => engine.close());

const four = (first: number) => ({ x: { dims: [1, 4], data: Float32Array.of(first, 1, 2, 3) } });
const first = ({ y }: Readonly<Record<string, Tensor>>) => (y as { data: Float32Array }).data[0];

/** So many bursts that batches have grown to their size. */
async function warmUp(target: string, feeds: (index: number) => Parameters<InferenceEngine['run']>[1]): Promise<void> {
  for (let burst = 0; burst < 8; burst += 1) {
    await Promise.all(Array.from({ length: 64 }, (_, index) => engine.run(target, feeds(index))));
  }
}

const metric = async (name: string): Promise<number> => {
  const found = (await engine.metrics.getMetricsAsJSON()).find((candidate) => candidate.name === `infermux_${name}`);
  return (found?.values as { value: number }[] | undefined)?.reduce((sum, { value }) => sum + value, 0) ?? Number.NaN;
};

describe('batches of real models', () => {
  it('form by themselves, and each request has its own rows, size and times', async () => {
    await start();
    await warmUp('double', four);
    const results = await Promise.all(
      Array.from({ length: 64 }, (_, index) => engine.infer({ target: 'double', feeds: four(index) })),
    );
    expect(results.map(({ outputs }) => first(outputs))).toEqual(results.map((_, index) => 2 * index));
    expect(Math.max(...results.map(({ batchSize }) => batchSize))).toBeGreaterThan(16);
    for (const { timings } of results) {
      expect(timings.runMs).toBeGreaterThan(0);
      expect(timings.totalMs).toBeGreaterThanOrEqual(timings.queueMs + timings.runMs);
    }
    expect(new Set(results.map(({ outputs }) => (outputs['y'] as { data: Float32Array }).data.buffer)).size).toBe(64);
    expect(await metric('batches_total')).toBeGreaterThan(0);
    expect(await metric('batch_verification_failures_total')).toBe(0);
  });

  it('split and join every type exactly, with no rows, one and several, into memory of their own', async () => {
    await start({ batching: { maxWaitMs: 2 } });
    const requests = fc.array(
      fc
        .integer({ min: 0, max: 3 })
        .chain((rows) => fc.tuple(...TENSOR_TYPES.map((type) => tensorOf(type, [rows, 2])))),
      { minLength: 2, maxLength: 12 },
    );
    let largest = 0;
    let arrays = 0;
    const buffers = new Set<ArrayBufferLike>();
    await fc.assert(
      fc.asyncProperty(requests, async (all) => {
        const answers = await Promise.all(
          all.map((tensors) => {
            const feeds = Object.fromEntries(tensors.map((tensor, index) => [`in${index}`, tensor]));
            return engine.infer({ target: 'identity', feeds });
          }),
        );
        for (const [index, { outputs, batchSize }] of answers.entries()) {
          largest = Math.max(largest, batchSize);
          const tensors = all[index] ?? [];
          expect(outputs).toEqual(Object.fromEntries(tensors.map((tensor, at) => [`out${at}`, tensor])));
          const views = Object.values(outputs).flatMap(({ data }) => (ArrayBuffer.isView(data) ? [data] : []));
          expect(views.map(({ buffer }) => buffer.byteLength)).toEqual(views.map(({ byteLength }) => byteLength));
          for (const { buffer } of views) buffers.add(buffer);
          arrays += views.length;
        }
      }),
      { numRuns: 60 },
    );
    expect(largest).toBeGreaterThan(1);
    expect(buffers.size).toBe(arrays);
    expect(await metric('batch_verification_failures_total')).toBe(0);
  });

  it('take requests of several rows, and keep them together', async () => {
    await start();
    await warmUp('double', four);
    const feeds = (rows: number) => ({
      x: { dims: [rows, 4], data: Float32Array.from({ length: rows * 4 }, (_, at) => at + rows) },
    });
    const answers = await Promise.all([1, 3, 2, 5].map((rows) => engine.run('double', feeds(rows))));
    for (const [index, rows] of [1, 3, 2, 5].entries()) {
      expect(answers[index]?.['y']).toEqual({
        type: 'float32',
        dims: [rows, 4],
        data: feeds(rows).x.data.map((value) => 2 * value),
      });
    }
  });
});

describe('a model that mixes rows', () => {
  it('is found out by the first batch, answered right all the same, and batched no more', async () => {
    const warnings: unknown[] = [];
    const nothing = () => undefined;
    await start({
      logger: { debug: nothing, info: nothing, error: nothing, warn: (fields: object) => warnings.push(fields) },
    });
    for (let burst = 0; burst < 5; burst += 1) {
      const answers = await Promise.all(Array.from({ length: 32 }, (_, index) => engine.run('mixing', four(index))));
      // Alone, every row is its own mean.
      expect(answers.map(first)).toEqual(answers.map(() => 0));
    }
    expect(await metric('batch_verification_failures_total')).toBe(1);
    expect(warnings).toEqual([
      expect.objectContaining({ model: 'mixing', reason: expect.stringContaining('output "y" is') }),
    ]);
    const { batchSize } = await engine.infer({ target: 'mixing', feeds: four(1) });
    expect(batchSize).toBe(1);
  });

  it('is found out though all requests were the same before', async () => {
    await start();
    await warmUp('mixing', () => four(7));
    const answers = await Promise.all(Array.from({ length: 32 }, (_, index) => engine.run('mixing', four(index))));
    expect(answers.map(first)).toEqual(answers.map(() => 0));
    expect(await metric('batch_verification_failures_total')).toBe(1);
  });
});

it('bad input in a batch fails alone', async () => {
  await start();
  const at = (index: number) => ({ index: { dims: [1, 1], data: BigInt64Array.of(BigInt(index)) } });
  await warmUp('look-up', (index) => at(index % 4));
  const outcomes = await Promise.all(
    [0, 1, 99, 2, -77, 3].map((index) =>
      engine.run('look-up', at(index)).then(first, ({ code }: InfermuxError) => code),
    ),
  );
  expect(outcomes).toEqual([10, 11, 'INFERENCE_FAILED', 12, 'INFERENCE_FAILED', 13]);
  expect(await metric('batch_verification_failures_total')).toBe(0);
  expect(engine.status().replicas[0]).toMatchObject({ ongoing: 0, failed: 2, restarts: 0 });
});

it('batching: false runs each request by itself', async () => {
  await start({ batching: false });
  await warmUp('double', four);
  const results = await Promise.all(
    Array.from({ length: 32 }, (_, index) => engine.infer({ target: 'double', feeds: four(index) })),
  );
  expect(results.map(({ batchSize, outputs }) => [batchSize, first(outputs)])).toEqual(
    results.map((_, index) => [1, 2 * index]),
  );
});

it('maxSize bounds the rows of a call', async () => {
  await start({ batching: { maxSize: 5 } });
  await warmUp('double', four);
  const results = await Promise.all(
    Array.from({ length: 40 }, (_, index) => engine.infer({ target: 'double', feeds: four(index) })),
  );
  expect(Math.max(...results.map(({ batchSize }) => batchSize))).toBe(5);
});
