import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { code, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { scaleModel, slowRunModel } from '../../support/onnx-models.js';
import { areSharedModelsHere, SHARED_MODELS } from '../../support/shared-models.js';

let engine: InferenceEngine;
const { metric, stateOf } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

describe('inspect', () => {
  it('loads a model if need be, and tells its report, inputs, outputs, producer and operator sets', async () => {
    await start(directory({ 'a.onnx': scaleModel(2), 'slow.onnx': slowRunModel(1, 4) }));
    const inspection = await engine.models.inspect('a');
    expect(inspection).toEqual({
      ...engine.models.get('a'),
      inputs: [{ name: 'x', type: 'float32', shape: ['N', 4] }],
      outputs: [{ name: 'y', type: 'float32', shape: ['N', 4] }],
      omittedOutputs: [],
      producer: 'infermux native-models',
      opsets: { 'ai.onnx': 17 },
      whyNotBatched: undefined,
    });
    expect(stateOf('a').sort()).toEqual(['loaded', 'not loaded']);
    expect(await engine.models.inspect('a@1')).toEqual(inspection);
    expect(await metric('infermux_load_model_duration_seconds')).toBe(1);
    expect((await engine.models.inspect('slow')).whyNotBatched).toBe('the first dimension of input "x" is always 1');
  });

  it('knows no producer of a model in memory', async () => {
    await start({ a: { bytes: scaleModel(2), batching: false } });
    expect(await engine.models.inspect('a')).toMatchObject({
      inputs: [{ name: 'x' }],
      producer: undefined,
      opsets: undefined,
      whyNotBatched: expect.stringContaining('its own "batching" is false'),
    });
  });

  it.skipIf(!areSharedModelsHere)('knows no producer of the ORT format', async () => {
    await start({ a: join(SHARED_MODELS, 'cases', 'mnist-ort-format-onnxjs', 'model.ort') });
    expect(await engine.models.inspect('a')).toMatchObject({ format: 'ort', producer: undefined, opsets: undefined });
  });

  it('is refused as retrieve is', async () => {
    await start(directory({ 'a.onnx': scaleModel(2), 'bad.onnx': 'no model' }), { repository: { lazy: false } });
    const { models } = engine;
    expect(await Promise.all(['a', 'b', ''].map((id) => code(models.inspect(id))))).toEqual([
      ...['FAILED_PRECONDITION', 'MODEL_NOT_FOUND', 'INVALID_ARGUMENT'],
    ]);
    await models.load('a');
    expect((await models.inspect('a')).inputs).toHaveLength(1);
    await engine.close();
    expect(await code(models.inspect('a'))).toBe('ENGINE_CLOSED');
  });
});
