import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { code, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { scaleModel, slowLoadModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const { ask, stateOf, metric } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

describe('what is loaded when', () => {
  it('retrieve waits for a load under way, and begins one where models are loaded lazily', async () => {
    await start(directory({ 'slow.onnx': slowLoadModel(4) }));
    const [first, second] = await Promise.all([engine.models.retrieve('slow'), engine.models.retrieve('slow')]);
    expect(first).toEqual(second);
    expect(await metric('infermux_load_model_duration_seconds')).toBe(1);
  });

  it('nothing is loaded by a request where models are not loaded lazily', async () => {
    await start(directory({ 'a.onnx': scaleModel(2) }), { repository: { lazy: false } });
    await expect(ask('a')).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining('engine.models.load("a")'),
    });
    expect(await code(engine.models.retrieve('a'))).toBe('FAILED_PRECONDITION');
    await engine.models.load('a');
    expect(await ask('a')).toBe(2);
    await engine.models.unload('a');
    expect(await code(ask('a'))).toBe('FAILED_PRECONDITION');
  });

  it('everything is loaded at the start where it is asked for, and a broken model keeps nobody from it', async () => {
    const models = directory({ 'a.onnx': scaleModel(2), 'b.onnx': 'no model', 'c.onnx': scaleModel(4) });
    await start(models, { repository: { lazy: false, loadOnStart: true } });
    expect([stateOf('a').includes('loaded'), stateOf('b').includes('failed'), stateOf('c').includes('loaded')]).toEqual(
      [...[true, true, true]],
    );
    expect([await ask('a'), await code(ask('b')), await ask('c')]).toEqual([2, 'FAILED_PRECONDITION', 4]);
  });

  it('the engine does not wait for it where it is told not to', async () => {
    const repository = { loadOnStart: true, waitForInitialLoad: false };
    await start(directory({ 'slow.onnx': slowLoadModel(12) }), { repository, replicas: 1 });
    expect(stateOf('slow')).not.toEqual(['loaded']);
    await until(() => stateOf('slow')[0] === 'loaded');
  });
});
