import { runInNewContext } from 'node:vm';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type Feeds, type InferenceEngine, type TensorType } from '../../../dist/index.js';
import { outcome } from '../../support/engines/handlers-engine.js';
import { identityModel, scaleModel } from '../../support/onnx-models.js';

const TYPES: readonly TensorType[] = [
  ...(['float32', 'float64', 'float16', 'bool'] as const),
  ...(['int8', 'uint8', 'int16', 'uint16', 'int32', 'uint32', 'int64', 'uint64'] as const),
];

let engine: InferenceEngine;

async function start(): Promise<void> {
  const models = { all: { bytes: identityModel(TYPES) }, double: { bytes: scaleModel(2) } };
  engine = await createEngine({ models, replicas: 1 });
}

afterEach(() => engine?.destroy());

/** Feeds of the model `all`: the same elements for every input. */
const feedsOf = (data: unknown): Feeds =>
  Object.fromEntries(TYPES.map((_, index) => [`in${index}`, { dims: [1, 2], data }])) as Feeds;

describe('arrays of numbers, bigints and booleans', () => {
  it.each([
    ['numbers', [1, 0]],
    ['bigints', [1n, 0n]],
    ['booleans', [true, false]],
  ])('of %s take the type of each input, at the first request and at later ones', async (_, data) => {
    await start();
    const first = await engine.run('all', feedsOf(data));
    expect(Object.values(first).map(({ type }) => type)).toEqual(TYPES);
    const ones = Object.values(first).map(({ data: [one, zero] }) => `${one} ${zero}`);
    // The bits of 1 as a float16 are 0x3c00.
    expect(ones).toEqual(TYPES.map((type) => (type === 'float16' ? '15360 0' : '1 0')));
    expect(await engine.run('all', feedsOf(data))).toEqual(first);
  });

  it('are refused when one is out of range, and no request beside them is', async () => {
    await start();
    const ask = (first: number) => outcome(engine.run('double', { x: { dims: [1, 4], data: [first, 2, 3, 4] } }));
    const refusal =
      'INVALID_ARGUMENT: model "double": input "x": 1e+300 at index 0 is no float32: the number is too large';
    const expected = (first: number) =>
      first === 1e300 ? refusal : { y: { type: 'float32', dims: [1, 4], data: Float32Array.of(2 * first, 4, 6, 8) } };
    const firsts = Array.from({ length: 40 }, (_, index) => (index % 10 === 3 ? 1e300 : index));
    // The first round waits for the first load of the model, so that a replica converts them.
    for (let round = 0; round < 3; round += 1) {
      expect(await Promise.all(firsts.map(ask))).toEqual(firsts.map(expected));
    }
  });

  it('are read at once: what the caller does to them later changes nothing', async () => {
    await start();
    for (let round = 0; round < 2; round += 1) {
      const data = [1, 2, 3, 4];
      const answer = engine.run('double', { x: { dims: [1, 4], data } });
      data.fill(9);
      expect((await answer)['y']?.data).toEqual(Float32Array.of(2, 4, 6, 8));
    }
  });

  it('are batched like others once the model is known', async () => {
    await start();
    await engine.models.load('double');
    const run = (first: number) =>
      engine.infer({ target: 'double', feeds: { x: { dims: [1, 4], data: [first, 0, 0, 0] } } });
    let largest = 0;
    for (let round = 0; round < 20; round += 1) {
      const results = await Promise.all(Array.from({ length: 64 }, (_, index) => run(index)));
      expect(results.map(({ outputs }) => outputs['y']?.data[0])).toEqual(results.map((_, index) => 2 * index));
      largest = Math.max(largest, ...results.map(({ batchSize }) => batchSize));
    }
    expect(largest).toBeGreaterThan(1);
  });
});

it('feeds and arrays of another realm are as good as those of this one', async () => {
  await start();
  const inContext = (code: string) => runInNewContext(code) as Feeds;
  const expected = { y: { type: 'float32', dims: [1, 4], data: Float32Array.of(2, 4, 6, 8) } };
  for (const data of ['new Float32Array([1, 2, 3, 4])', '[1, 2, 3, 4]']) {
    const run = (transfer: boolean) =>
      engine.run('double', inContext(`({ x: { dims: [1, 4], data: ${data} } })`), { transfer });
    expect([await run(false), await run(true)]).toEqual([expected, expected]);
  }
  const taken = inContext('({ x: { dims: [1, 4], data: new Float32Array(4) } })');
  await engine.run('double', taken, { transfer: true });
  expect(taken['x']?.data).toHaveLength(0);
});
