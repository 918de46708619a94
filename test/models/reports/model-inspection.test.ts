import { describe, expect, it } from 'vitest';
import type { Batching, ModelReport } from '../../../dist/index.js';
import type { RegisteredModel } from '../../../dist/models/registered-model.js';
import { inspectModel } from '../../../dist/models/reports/model-inspection.js';

const model = (batching?: Batching): RegisteredModel => ({
  ...{ id: 'a', key: 'a@1', version: 1, path: '/nowhere/a.onnx', bytes: 10, format: 'onnx', isPinned: false },
  ...{ fingerprint: 'a', batching },
});
const report: ModelReport = {
  ...{ id: 'a', version: 1, isDefault: true, path: '/nowhere/a.onnx', format: 'onnx', bytes: 10, estimatedBytes: 20 },
  ...{
    weights: 'private',
    isPinned: false,
    licence: undefined,
    origin: undefined,
    lookedAt: undefined,
    problem: undefined,
    isReady: true,
    replicas: [],
  },
};
const metadata = (input: string | number, output: string | number) => ({
  inputs: [{ name: 'x', type: 'float32', shape: [input, 4] }] as const,
  outputs: [{ name: 'y', type: 'float32', shape: [output, 4] }] as const,
  omittedOutputs: [{ name: 'z', reason: 'it is a sequence' }],
});

describe('an inspection', () => {
  it('is the report with the inputs and outputs of the model, and less where the file cannot be read', async () => {
    const values = metadata('N', 'N');
    expect(await inspectModel(model(), values, report)).toEqual({
      ...report,
      ...{ ...values, producer: undefined, opsets: undefined, whyNotBatched: undefined },
    });
  });

  it.each<[string | number, string | number, Batching | undefined, string | undefined]>([
    ['N', 'N', undefined, undefined],
    ['N', 'N', 'auto', undefined],
    ['N', 'N', false, 'its own "batching" is false, in its model.json or in options.models'],
    [1, 'N', undefined, 'the first dimension of input "x" is always 1'],
    [1, 'N', {}, 'the first dimension of input "x" is always 1'],
    [
      ...(['', 'N', undefined] as const),
      'the first dimension of input "x" is free, but has no name; "batching": {} in its model.json or in options.models asks for it anyway',
    ],
    ['', 'M', { maxSize: 8 }, undefined],
  ])('of the first dimensions %j and %j and batching %j says why not: %j', async (input, output, batching, reason) => {
    expect((await inspectModel(model(batching), metadata(input, output), report)).whyNotBatched).toBe(reason);
  });

  it('fails for a model that is gone', async () => {
    await expect(inspectModel(model(), undefined, report)).rejects.toMatchObject({ code: 'MODEL_NOT_FOUND' });
  });
});
