import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { code, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { externalModel, identityModel, scaleModel } from '../../support/onnx-models.js';

let engine: InferenceEngine;
const { ask } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

describe('what models say of themselves', () => {
  const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');
  const manifest = (value: object) => JSON.stringify(value);

  it('hashes are checked at the load', async () => {
    const model = scaleModel(2);
    await start(
      directory({
        'good/model.onnx': model,
        'good/model.json': manifest({ sha256: sha256(model) }),
        'bad/model.onnx': model,
        'bad/model.json': manifest({ sha256: 'ab'.repeat(32) }),
        'gone/model.onnx': model,
        'gone/model.json': manifest({ sha256: { 'weights.bin': 'ab'.repeat(32) } }),
      }),
    );
    expect(await ask('good')).toBe(2);
    await expect(ask('bad')).rejects.toMatchObject({
      code: 'MODEL_LOAD_FAILED',
      message: expect.stringContaining(`SHA-256 is ${sha256(model)}, expected abab`),
    });
    await expect(ask('gone')).rejects.toMatchObject({
      code: 'MODEL_LOAD_FAILED',
      message: expect.stringContaining('ENOENT'),
    });
  });

  it('warm-up runs are part of the load, and fail it when they fail', async () => {
    const model = scaleModel(2);
    const with_ = (warmUp: object) => manifest({ warmUp });
    await start(
      directory({
        'good/model.onnx': model,
        'good/model.json': with_([{ x: { dims: [1, 4] } }, { x: { dims: [1, 4], data: [1, 2, 3, 4] } }]),
        'bad/model.onnx': model,
        'bad/model.json': with_([{ x: { dims: [1, 5] } }]),
        'short/model.onnx': model,
        'short/model.json': with_([{ x: { dims: [1, 4], data: [1] } }]),
        'range/model.onnx': identityModel(['uint8']),
        'range/model.json': with_([{ in0: { dims: [1, 2], data: [1, 256] } }]),
        'flags/model.onnx': identityModel(['bool']),
        'flags/model.json': with_([{ in0: { dims: [1, 2], data: [true, false] } }]),
        'text/model.onnx': identityModel(['int64']),
        'text/model.json': with_([{ in0: { dims: [1, 2], data: ['', 1] } }]),
        'half/model.onnx': identityModel(['int64']),
        'half/model.json': with_([{ in0: { dims: [1, 2], data: [0.5, '1'] } }]),
        'exact/model.onnx': identityModel(['int64']),
        'exact/model.json': with_([{ in0: { dims: [1, 2], data: ['9007199254740993', -1] } }]),
      }),
    );
    expect(await ask('good')).toBe(2);
    await expect(ask('bad')).rejects.toMatchObject({
      code: 'MODEL_LOAD_FAILED',
      message: expect.stringContaining('warm-up run 1 failed'),
    });
    await expect(ask('short')).rejects.toThrow('has dims for 4 elements, and data has 1');
    await expect(engine.models.load('text')).rejects.toThrow('input "in0": "" is no int64');
    await expect(engine.models.load('half')).rejects.toThrow('0.5 is no int64');
    expect((await engine.models.load('flags')).id).toBe('flags');
    await expect(engine.models.load('range')).rejects.toThrow('256 at index 1 is no uint8: expected an integer from 0');
    expect((await engine.models.load('exact')).id).toBe('exact');
  });

  it('session options go before those of the engine', async () => {
    const files = {
      'a/model.onnx': scaleModel(2),
      'a/model.json': manifest({ session: { executionProviders: ['cpu'] } }),
    };
    await start(directory({ ...files, 'b.onnx': scaleModel(3) }), { session: { executionProviders: ['nonesuch'] } });
    expect([await ask('a'), await code(ask('b'))]).toEqual([2, 'MODEL_LOAD_FAILED']);
  });

  it.runIf(process.platform === 'linux')('a session gets no more threads than there are cores', async () => {
    const threads = () => readdirSync('/proc/self/task').length;
    await start(
      directory({
        'a/model.onnx': scaleModel(2),
        'a/model.json': manifest({ session: { intraOpNumThreads: 1_000, interOpNumThreads: 1_000 } }),
      }),
    );
    const before = threads();
    expect(await ask('a')).toBe(2);
    expect(threads() - before).toBeLessThanOrEqual(2 * availableParallelism());
  });

  it('options that could harm the process are refused in a deploy, and are free for the program', async () => {
    const session = { logSeverityLevel: 4, logId: 'a\nb', extra: { session: { log_id: 'b' } } } as const;
    const model = scaleModel(2);
    const root = directory({ 'a.onnx': model });
    await start(root, { session });
    expect(await ask('a')).toBe(2);
    const deploy = (id: string, own: object) =>
      engine.models.deploy(id, { 'model.onnx': model, 'model.json': manifest({ session: own }) });
    for (const [key, value] of Object.entries(session)) {
      await expect(deploy('b', { [key]: value })).rejects.toMatchObject({
        ...{ code: 'INVALID_ARGUMENT', message: expect.stringContaining('a model.json must not set') },
      });
    }
    expect((await deploy('b', { extra: { session: { disable_prepacking: '1' } } })).id).toBe('b');
    expect(await ask('b')).toBe(2);
    await engine.destroy();
    await start({ a: { path: join(root, 'a.onnx'), session } });
    expect(await ask('a')).toBe(2);
  });

  it('licence, size and what memory a session takes are told', async () => {
    const { model, weights } = externalModel('weights.bin', 4_000_000);
    await start(
      directory({ 'a/model.onnx': model, 'a/weights.bin': weights, 'a/model.json': manifest({ licence: 'MIT' }) }),
    );
    const bytes = model.byteLength + weights.byteLength;
    expect(engine.models.get('a')).toMatchObject({ licence: 'MIT', bytes, problem: undefined });
    expect(engine.models.size('a')).toBe(bytes);
    const guess = engine.models.estimateSize('a');
    expect(guess).toBe(1.5 * bytes);
    await engine.models.load('a', { replicas: 'all' });
    // It was measured, and may be less than the files, which are mapped.
    expect(engine.models.get('a').estimatedBytes).toBe(engine.models.estimateSize('a'));
    expect(engine.status().models[0]?.bytes).toBe(bytes);
  });
});
