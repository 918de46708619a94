import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { code, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { scaleModel } from '../../support/onnx-models.js';

let engine: InferenceEngine;
const { ask, stateOf, metric } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

describe('pinned models', () => {
  const several = () =>
    directory({ 'a.onnx': scaleModel(2), 'b.onnx': scaleModel(3), 'c.onnx': scaleModel(4), 'd.onnx': scaleModel(5) });

  it('stay when others come, until they are unloaded', async () => {
    await start(several(), { maxModelsPerReplica: 2 });
    expect(await engine.models.load('a', { replicas: 'all', pin: true })).toMatchObject({ isPinned: true });
    for (let time = 0; time < 3; time += 1) for (const id of ['b', 'c', 'd']) await ask(id);
    expect(stateOf('a')).toEqual(['loaded', 'loaded']);
    expect(await metric('infermux_model_age_at_eviction_seconds')).toBeGreaterThan(0);
    await engine.models.unload('a');
    expect(engine.models.get('a').isPinned).toBe(false);
  });

  it('leave one place for the others', async () => {
    await start(several(), { maxModelsPerReplica: 1 });
    await expect(engine.models.load('a', { pin: true })).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining('maxModelsPerReplica'),
    });
    expect(engine.models.get('a').isPinned).toBe(false);
    expect(await Promise.all([1, 2].map(() => code(engine.models.load('a', { pin: true }))))).toEqual([
      ...['FAILED_PRECONDITION', 'FAILED_PRECONDITION'],
    ]);
    expect(engine.models.get('a').isPinned).toBe(false);
  });

  it('are none where the program does not let a model.json pin', async () => {
    const files = { 'a/model.onnx': scaleModel(2), 'a/model.json': '{ "pinned": true }' };
    await start(directory(files), { replicas: 1, repository: { pinned: false } });
    expect(engine.models.get('a')).toMatchObject({ isPinned: false });
    expect(stateOf('a')).toEqual(['not loaded']);
  });

  it('are loaded from the start where their model.json says so', async () => {
    await start(
      directory({ 'a/model.onnx': scaleModel(2), 'a/model.json': '{ "pinned": true }', 'b.onnx': scaleModel(3) }),
    );
    expect([stateOf('a'), stateOf('b')]).toEqual([
      ['loaded', 'loaded'],
      ['not loaded', 'not loaded'],
    ]);
  });
});
