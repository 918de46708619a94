import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { code, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { scaleModel } from '../../support/onnx-models.js';

let engine: InferenceEngine;
const { ask } = questionsTo(() => engine);

async function start(models: EngineOptions['models']): Promise<void> {
  ({ engine } = await startModels(models, {}));
}

afterEach(() => engine?.destroy());

const why = async (id: string) => (await engine.models.inspect(id)).whyNotBatched;

describe('a model that gets other settings', () => {
  it.each<[string, () => EngineOptions['models']]>([
    ['in a directory', () => directory({ 'a.onnx': scaleModel(2), 'b.onnx': scaleModel(3) })],
    ['by id', () => ({ a: scaleModel(2), b: scaleModel(3) })],
  ])('%s has them until they are taken back, and others keep theirs', async (_, modelsOf) => {
    await start(modelsOf());
    const before = await why('a');
    expect(await engine.models.configure('a', { batching: false })).toMatchObject({ id: 'a', problem: undefined });
    expect(await why('a')).toContain('"batching" is false');
    expect(await why('b')).toBe(before);
    expect(await Promise.all(['a', 'a@1', 'b'].map(ask))).toEqual([2, 2, 3]);
    await engine.models.configure('a');
    expect(await why('a')).toBe(before);
    expect(await ask('a')).toBe(2);
    await engine.models.configure('a');
  });

  it('has them after its files have changed, and not when it is gone and comes again', async () => {
    const root = directory({ 'a.onnx': scaleModel(2), 'b.onnx': scaleModel(3) });
    await start(root);
    const before = await why('a');
    await engine.models.configure('a', { batching: false });
    writeFileSync(join(root, 'a.onnx'), scaleModel(4));
    await engine.models.sync();
    expect([await ask('a'), await why('a')]).toEqual([4, expect.stringContaining('"batching" is false')]);
    await engine.models.undeploy('a');
    await engine.models.deploy('a', { 'model.onnx': scaleModel(5) });
    expect(await ask('a')).toBe(5);
    expect(await why('a')).toBe(before);
  });

  it('stays as it was when it does not load with them', async () => {
    await start({ a: scaleModel(2) });
    await ask('a');
    const bad = { warmUp: [{ nothing: { dims: [1] } }] };
    expect(await code(engine.models.configure('a', bad))).toBe('MODEL_LOAD_FAILED');
    expect(engine.models.get('a')).toMatchObject({ problem: undefined });
    expect(await ask('a')).toBe(2);
  });

  it('answers all requests meanwhile', async () => {
    await start({ a: scaleModel(2) });
    let isDone = false;
    const changed = engine.models.configure('a', { session: { graphOptimizationLevel: 'disabled' } });
    void changed.finally(() => {
      isDone = true;
    });
    while (!isDone) expect(await Promise.all([ask('a'), ask('a')])).toEqual([2, 2]);
    await changed;
  });

  it('is refused with a name or settings that are none', async () => {
    await start({ find: (id) => (id === 'found' ? scaleModel(6) : undefined) });
    await engine.models.register('a', scaleModel(2));
    expect(await ask('found')).toBe(6);
    const tries: [unknown, unknown][] = [
      ['none', {}],
      ['a@1', {}],
      ['a', 7],
      ['a', { pinned: true }],
      ['a', { batching: 'no' }],
      ['found', {}],
    ];
    expect(await engine.models.configure('found')).toMatchObject({ id: 'found' });
    const codes = [];
    for (const [id, settings] of tries) codes.push(await code(engine.models.configure(id as 'a', settings as object)));
    expect(codes).toEqual(['MODEL_NOT_FOUND', ...Array(4).fill('INVALID_ARGUMENT'), 'FAILED_PRECONDITION']);
  });
});
