import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { code, one, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { scaleModel, slowLoadModel, slowRunModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
let logged: string[];
const { ask, stateOf, metric } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine, logged } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

describe('load and unload', () => {
  it('put a model into so many replicas, and take it out again', async () => {
    await start(directory({ 'double.onnx': scaleModel(2) }));
    expect(stateOf('double')).toEqual(['not loaded', 'not loaded']);
    await engine.models.load('double');
    expect(stateOf('double').sort()).toEqual(['loaded', 'not loaded']);
    const report = await engine.models.load('double@1', { replicas: 'all' });
    expect(report).toMatchObject({ id: 'double', version: 1, isDefault: true, format: 'onnx', weights: 'auto' });
    expect(stateOf('double')).toEqual(['loaded', 'loaded']);
    const { bytes } = report;
    expect([await metric('infermux_loaded_models'), await metric('infermux_total_loaded_models_size_bytes')]).toEqual([
      2,
      2 * bytes,
    ]);
    const each = engine.models.estimateSize('double');
    expect(await engine.models.unload('double')).toBe(2 * each);
    expect(await engine.models.unload('double')).toBe(0);
    expect(await engine.models.unload('unknown')).toBe(0);
    expect(stateOf('double')).toEqual(['not loaded', 'not loaded']);
    expect(await metric('infermux_loaded_models')).toBe(0);
    expect(await metric('infermux_load_model_duration_seconds')).toBe(2);
    expect(await ask('double')).toBe(2);
  });

  it('wait for each other, and for those who use the model', async () => {
    await start(directory({ 'slow-load.onnx': slowLoadModel(8), 'slow-run.onnx': slowRunModel(60) }), { replicas: 1 });
    const loaded = engine.models.load('slow-load');
    await until(() => stateOf('slow-load')[0] === 'loading');
    expect(await engine.models.unload('slow-load')).toBeGreaterThan(0);
    await loaded;
    const answers: string[] = [];
    const run = engine.run('slow-run', one).then(() => answers.push('answered'));
    await until(() => engine.status().replicas[0]?.ongoing === 1);
    await engine.models.unload('slow-run').then(() => answers.push('unloaded'));
    await run;
    expect(answers).toEqual(['answered', 'unloaded']);
  });

  it('are done in the order in which they are asked for', async () => {
    await start(directory({ 'slow.onnx': slowLoadModel(4), 'bad.onnx': 'no model' }), { replicas: 1 });
    const calls = [engine.models.load('slow'), engine.models.unload('slow'), engine.models.load('slow', { pin: true })];
    await Promise.all(calls as Promise<unknown>[]);
    expect([stateOf('slow'), engine.models.get('slow').isPinned]).toEqual([['loaded'], true]);
    await engine.models.unload('slow');
    await Promise.all([engine.models.load('slow', { pin: true }), engine.models.unload('slow')] as Promise<unknown>[]);
    expect([stateOf('slow'), engine.models.get('slow').isPinned]).toEqual([['not loaded'], false]);
    const retried = code(engine.models.load('bad', { retries: 50 }));
    expect(await engine.models.unload('bad')).toBe(0);
    expect(await retried).toBe('MODEL_LOAD_FAILED');
  });

  it('estimates the memory of a model that is not registered', async () => {
    const root = directory({ 'a.onnx': scaleModel(2) });
    await start({});
    const bytes = scaleModel(2).byteLength;
    expect(await engine.models.estimateSize({ path: join(root, 'a.onnx') })).toBe(2 * bytes);
    expect(await engine.models.estimateSize({ bytes: scaleModel(2), weights: 'shared' })).toBe(Math.round(bytes / 5));
    expect(await code(engine.models.estimateSize({ path: join(root, 'none.onnx') }))).toBe('FAILED_PRECONDITION');
    expect(await code(engine.models.estimateSize({}))).toBe('INVALID_ARGUMENT');
    expect(() => engine.models.estimateSize('unknown')).toThrow('no model "unknown"');
  });

  it('unload everything at once', async () => {
    await start(directory({ 'a.onnx': scaleModel(2), 'b.onnx': scaleModel(3) }));
    await Promise.all(['a', 'b'].map((id) => engine.models.load(id, { replicas: 'all' })));
    const each = engine.models.estimateSize('a') + engine.models.estimateSize('b');
    expect(await engine.models.unloadAll()).toBe(2 * each);
    expect(engine.status().replicas.map(({ models }) => models)).toEqual([[], []]);
  });

  it('say why a model cannot be loaded, and when it is tried next', async () => {
    await start(directory({ 'bad.onnx': 'no model' }));
    await expect(engine.models.load('bad')).rejects.toMatchObject({
      code: 'MODEL_LOAD_FAILED',
      message: expect.stringContaining('is not an ONNX or ORT model'),
    });
    const failed = engine.models.get('bad').replicas.find(({ state }) => state === 'failed');
    expect(failed?.reason).toContain('is not an ONNX or ORT model');
    expect(failed?.nextTryInMs).toBeGreaterThan(0);
    expect(failed?.nextTryInMs).toBeLessThanOrEqual(1_000);
    expect(await metric('infermux_load_model_exceptions_total')).toBe(1);
  });

  it('go on behind a promise that does not wait, or not so long', async () => {
    await start(directory({ 'slow.onnx': slowLoadModel(8), 'bad.onnx': 'no model' }));
    await engine.models.load('bad', { wait: false });
    await until(() => logged.some((line) => line.startsWith('model could not be loaded: bad')));
    await expect(engine.models.load('slow', { timeoutMs: 1 })).rejects.toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    await until(() => stateOf('slow').includes('loaded'));
  });

  it.each([
    [{ replicas: 0 }, "replicas must be 'all' or an integer from 1 to 2"],
    [{ replicas: 3 }, "replicas must be 'all' or an integer from 1 to 2"],
    [{ pin: 1 }, 'pin must be true or false'],
    [{ wait: 'no' }, 'wait must be true or false'],
    [{ retries: -1 }, 'retries must be an integer'],
    [{ timeoutMs: -2 }, 'timeoutMs must be milliseconds'],
    [{ size: 1 }, 'unknown key "size"'],
  ])('refuse the options %j', async (options, message) => {
    await start(directory({ 'a.onnx': scaleModel(2) }));
    const refused = engine.models.load('a', options as never);
    await expect(refused).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(message),
    });
  });

  it('refuse what is no id or is not there, and everything when the engine is closed', async () => {
    await start(directory({ 'a.onnx': scaleModel(2) }));
    const { models } = engine;
    for (const id of ['', 7, undefined] as never[]) {
      expect(await Promise.all([models.load(id), models.unload(id), models.retrieve(id)].map(code))).toEqual(
        Array(3).fill('INVALID_ARGUMENT'),
      );
      for (const call of ['get', 'size', 'estimateSize'] as const) {
        expect(() => models[call](id)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
      }
    }
    for (const call of ['get', 'size', 'estimateSize'] as const) {
      expect(() => models[call]('b')).toThrow(expect.objectContaining({ code: 'MODEL_NOT_FOUND' }));
    }
    expect(await Promise.all([code(models.load('b')), code(models.retrieve('a@2'))])).toEqual(
      Array(2).fill('MODEL_NOT_FOUND'),
    );
    await engine.close();
    const calls = [
      models.load('a'),
      models.unload('a'),
      models.unloadAll(),
      models.sync(),
      models.deploy('b', {}),
      models.undeploy('a'),
    ];
    expect(await Promise.all(calls.map(code))).toEqual(Array(6).fill('ENGINE_CLOSED'));
  });
});
