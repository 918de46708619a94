import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { code, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { externalModel, scaleModel } from '../../support/onnx-models.js';
import { areSharedModelsHere, SHARED_MODELS } from '../../support/shared-models.js';

let engine: InferenceEngine;
const { ask } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

describe('where models come from', () => {
  it('memory', async () => {
    await start({ a: scaleModel(2), b: { bytes: scaleModel(3), version: 7 } });
    expect([await ask('a'), await ask('b@7')]).toEqual([2, 3]);
    await engine.models.unload('a');
    expect(await ask('a')).toBe(2);
    expect([await code(engine.models.deploy('c', { 'model.onnx': '' })), await code(engine.models.sync())]).toEqual([
      ...['FAILED_PRECONDITION', 'FAILED_PRECONDITION'],
    ]);
  });

  it('a file with external data', async () => {
    const { model, weights } = externalModel('weights.bin', 8);
    const root = directory({ 'model.onnx': model, 'weights.bin': weights });
    await start({ a: join(root, 'model.onnx') });
    const { y } = await engine.run('a', { x: { dims: [1, 8], data: new Float32Array(8) } });
    expect(y?.data).toEqual(Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7));
  });

  it.skipIf(!areSharedModelsHere)('the ORT format, by path and in memory', async () => {
    const path = join(SHARED_MODELS, 'cases', 'mnist-ort-format-onnxjs', 'model.ort');
    await start({ file: path, memory: readFileSync(path) });
    expect(engine.models.get('memory').format).toBe('ort');
    await engine.models.load('file');
    await engine.models.load('memory');
  });
});
