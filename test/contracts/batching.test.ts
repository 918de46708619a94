import { describe, expect, it } from 'vitest';
import { batchingPolicy, checkBatching, whyNotBatched } from '../../dist/contracts/batching.js';
import type { ModelMetadata, ValueMetadata } from '../../dist/tensors/tensor.js';

const value = (name: string, ...shape: (number | string)[]): ValueMetadata => ({ name, type: 'float32', shape });
const model = (input: ValueMetadata, output: ValueMetadata): ModelMetadata => ({
  inputs: [input],
  outputs: [output],
  omittedOutputs: [],
});

describe('a model is batched by itself', () => {
  it.each<[string, ModelMetadata, string | undefined, string | undefined]>([
    ['when all first dimensions have the same name', model(value('x', 'N', 3), value('y', 'N')), undefined, undefined],
    [
      'not when they have different names',
      model(value('x', 'N'), value('y', 'M')),
      'output "y" has "M" as its first dimension, input "x" has "N"',
      undefined,
    ],
    [
      'not when one has no name',
      model(value('x', ''), value('y', '')),
      'the first dimension of input "x" is free, but has no name',
      undefined,
    ],
    [
      'not when one is fixed',
      model(value('x', 'N'), value('y', 1, 3)),
      'the first dimension of output "y" is always 1',
      'the first dimension of output "y" is always 1',
    ],
    [
      'not when one has no shape',
      model(value('x', 'N'), value('y')),
      'output "y" is a scalar or declares no shape',
      undefined,
    ],
    [
      'with free dimensions that inputs have too',
      model(value('x', 'N', 'T'), value('y', 'N', 'T')),
      undefined,
      undefined,
    ],
    [
      'not when an output has a free dimension of its own',
      model(value('x', 'N'), value('y', 'N', 'tokens')),
      'output "y" has a free dimension "tokens", which may depend on the other rows',
      undefined,
    ],
    [
      'not when the first dimension comes again',
      model(value('x', 'N', 'N'), value('y', 'N')),
      'input "x" has a free dimension "N", which may depend on the other rows',
      undefined,
    ],
    [
      'not without inputs',
      { inputs: [], outputs: [value('y', 'N')], omittedOutputs: [] },
      'it has no inputs',
      'it has no inputs',
    ],
  ])('%s', (_, metadata, reason, reasonWhenAskedFor) => {
    expect(whyNotBatched(metadata)).toBe(reason);
    expect(whyNotBatched(metadata, true)).toBe(reasonWhenAskedFor);
  });
});

describe('the batching option', () => {
  it.each([
    [true, "batching must be 'auto', false or { maxSize, maxWaitMs, targetLatencyMs, verify }, got true"],
    [{ maxSize: 0 }, 'batching.maxSize must be an integer of at least 1, got 0'],
    [{ maxWaitMs: -1 }, 'batching.maxWaitMs must be milliseconds'],
    [{ verify: 'yes' }, 'batching.verify must be true or false, got "yes"'],
    [{ size: 3 }, 'batching: unknown key "size"'],
    [[], "batching must be 'auto', false or {"],
  ])('%j is refused', (batching, message) => {
    expect(() => checkBatching('batching', batching)).toThrow(message);
  });

  it("of a model goes before the engine's, key by key", () => {
    expect(batchingPolicy({ maxSize: 8, maxWaitMs: 3 }, { maxSize: 16, verify: undefined })).toEqual({
      isEnabled: true,
      isOwn: true,
      maxSize: 16,
      maxWaitMs: 3,
      targetLatencyMs: undefined,
      verify: true,
    });
    expect(batchingPolicy(false, 'auto')).toMatchObject({ isEnabled: true, isOwn: false });
    expect(batchingPolicy('auto', false)).toMatchObject({ isEnabled: false });
    expect(batchingPolicy(false, undefined)).toMatchObject({ isEnabled: false });
  });
});
