import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { type EngineOptions, type InferenceEngine, readModelSource } from '../../../dist/index.js';
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

  it('paths and file: URLs, with spaces and other characters that a URL encodes', async () => {
    const { model, weights } = externalModel('weights.bin', 4);
    const name = 'my models #1 100% é模型';
    const root = directory({
      [`${name}/a/model.onnx`]: model,
      [`${name}/a/model.json`]: '{ "version": 3 }',
      [`${name}/a/weights.bin`]: weights,
    });
    const folder = pathToFileURL(join(root, name));
    const file = new URL('a/model.onnx', `${folder.href}/`);
    const feeds = { x: { dims: [1, 4], data: new Float32Array(4) } };
    const answers = async () =>
      (await Promise.all(engine.models.list().map(({ id }) => engine.run(id, feeds)))).map(({ y }) => y?.data[3]);
    const given = { url: file, text: file.href, inside: { path: file }, read: await readModelSource(file) };
    for (const models of [folder, folder.href, given]) {
      await start(models);
      expect(await answers()).toEqual(Array(models === given ? 4 : 1).fill(3));
      await engine.close();
    }
    expect(given.read).toMatchObject({ path: fileURLToPath(file), version: 3 });
    await expect(readModelSource(new URL('https://example.org/a.onnx'))).rejects.toMatchObject({
      ...{ code: 'INVALID_ARGUMENT', message: expect.stringContaining('got https://example.org/a.onnx') },
    });
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
