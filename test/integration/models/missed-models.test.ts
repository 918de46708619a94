import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory, writeFiles } from '../../support/directories.js';
import { code, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { scaleModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const { ask } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

const settled = { repository: { settleMs: 0 } };

describe('a model that nobody knows yet', () => {
  it('is found where it lies by the first request for it, and by load, find and retrieve', async () => {
    const root = directory();
    await start(root, settled);
    writeFiles(root, {
      'a.onnx': scaleModel(2),
      'b/model.onnx': scaleModel(3),
      'c/4/model.onnx': scaleModel(4),
      'd.onnx': scaleModel(5),
      'e.onnx': scaleModel(6),
      'f.onnx': scaleModel(7),
    });
    expect(await Promise.all(['a', 'b', 'c', 'c@4'].map(ask))).toEqual([2, 3, 4, 4]);
    expect((await engine.models.load('d')).id).toBe('d');
    expect((await engine.models.find('e')).id).toBe('e');
    expect((await engine.models.retrieve('f')).id).toBe('f');
    expect(
      engine.models
        .list()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(['a', 'b', 'c', 'd', 'e', 'f']);
  });

  it('is looked for once for all who want it, and once in a second where it is not there', async () => {
    const root = directory();
    await start(root, settled);
    const misses = await Promise.all(Array.from({ length: 50 }, () => engine.run('a', {}).catch((error) => error)));
    expect(new Set(misses.map((error) => error.code))).toEqual(new Set(['MODEL_NOT_FOUND']));
    writeFileSync(join(root, 'a.onnx'), scaleModel(2));
    // It is remembered that there is none, and said for how long.
    const error = await ask('a').catch((cause) => cause);
    expect(error).toMatchObject({ code: 'MODEL_NOT_FOUND', retryable: true });
    expect(error.retryAfterMs).toBeGreaterThan(0);
    expect(error.retryAfterMs).toBeLessThanOrEqual(1_000);
    await until(async () => (await code(ask('a'))) === 'done');
  });

  it('is a new version of a known one', async () => {
    const root = directory({ 'a/1/model.onnx': scaleModel(2) });
    await start(root, settled);
    writeFiles(root, { 'a/2/model.onnx': scaleModel(3) });
    expect(await ask('a')).toBe(2);
    expect([await ask('a@2'), await ask('a')]).toEqual([3, 3]);
  });

  it('is taken when it is whole: one that is still being written is not there yet', async () => {
    const root = directory();
    await start(root, { repository: { settleMs: 200 } });
    const model = scaleModel(2);
    writeFileSync(join(root, 'a.onnx'), model.subarray(0, 50));
    const early = code(ask('a'));
    setTimeout(() => writeFileSync(join(root, 'a.onnx'), model), 50);
    expect(await early).toBe('MODEL_NOT_FOUND');
    await until(async () => (await code(ask('a'))) === 'done');
  });

  it('is not looked for where models are not loaded lazily', async () => {
    const root = directory();
    await start(root, { repository: { lazy: false, settleMs: 0 } });
    writeFileSync(join(root, 'a.onnx'), scaleModel(2));
    const error = await ask('a').catch((cause) => cause);
    expect(error).toMatchObject({ code: 'MODEL_NOT_FOUND', retryable: false });
  });

  it('is asked of a finder when it is not in the directory', async () => {
    const root = directory();
    await start(root, {
      finder: { find: (id) => (id === 'b' ? scaleModel(8) : undefined) },
      ...settled,
      modelCache: { directory: directory() },
    });
    writeFileSync(join(root, 'a.onnx'), scaleModel(2));
    expect([await ask('a'), await ask('b'), await code(ask('c'))]).toEqual([2, 8, 'MODEL_NOT_FOUND']);
  });

  it('cannot lie outside of the directory', async () => {
    const outside = directory({ 'secret.onnx': scaleModel(2) });
    const root = join(outside, 'models');
    mkdirSync(root);
    await start(root, settled);
    const names = [
      '../secret',
      './../secret',
      '..',
      '.',
      '/etc/passwd',
      join(outside, 'secret'),
      'a\0',
      'a/../../secret',
    ];
    for (const name of names) expect(await code(ask(name))).toBe('MODEL_NOT_FOUND');
    expect(engine.models.list()).toEqual([]);
  });

  it('that is named like others is told so, with what else there is', async () => {
    await start(directory({ 'a.onnx': scaleModel(2) }), {
      ...settled,
      deployments: { app: { handler: new URL('../../support/handler.mjs', import.meta.url) } },
    });
    await expect(ask('nothing')).rejects.toThrow(
      /no model "nothing"; known models: "a"; deployments with a handler: "app"/,
    );
    await expect(engine.endpoints.set('e', { traffic: { nothing: 1 } })).rejects.toThrow(/no model "nothing"/);
  });

  it('leaves the others alone when the directory is gone for a moment', async () => {
    const root = join(directory(), 'models');
    mkdirSync(root);
    writeFileSync(join(root, 'a.onnx'), scaleModel(2));
    await start(root, settled);
    expect(await ask('a')).toBe(2);
    renameSync(root, `${root}-gone`);
    expect(await code(ask('b'))).toBe('MODEL_NOT_FOUND');
    symlinkSync(`${root}-gone`, root);
    expect(await ask('a')).toBe(2);
    rmSync(root);
  });

  it('is looked for with no more than so many others: a flood of names costs the others nothing', async () => {
    const root = directory({ 'a.onnx': scaleModel(2) });
    await start(root, settled);
    const misses = Array.from({ length: 2_000 }, (_, index) => ask(`m${index}`).catch((error) => error));
    expect(await ask('a')).toBe(2);
    const errors = await Promise.all(misses);
    expect(new Set(errors.map((error) => error.code))).toEqual(new Set(['MODEL_NOT_FOUND']));
    expect(errors.filter(({ message, retryable }) => retryable && message.includes('too many others'))).toHaveLength(
      2_000 - 64,
    );
    writeFileSync(join(root, 'b.onnx'), scaleModel(3));
    expect(await ask('b')).toBe(3);
  });

  it('is found in the directory, whatever its finder said a moment ago', async () => {
    const root = directory();
    await start(root, { ...settled, finder: { find: () => undefined } });
    expect(await code(ask('a'))).toBe('MODEL_NOT_FOUND');
    writeFileSync(join(root, 'a.onnx'), scaleModel(2));
    await until(async () => (await code(ask('a'))) === 'done');
    expect(await ask('a')).toBe(2);
  });

  it('wakes no deployment that has scaled to zero', async () => {
    await start(directory(), {
      ...settled,
      replicas: undefined,
      autoscaling: { minReplicas: 0, maxReplicas: 1 },
    } as never);
    expect(await code(ask('a'))).toBe('MODEL_NOT_FOUND');
    expect(engine.status().replicas).toEqual([]);
  });

  it('leaves its session to each that has one when it is tried', async () => {
    const root = directory({ 'a.onnx': scaleModel(2), 'b.onnx': scaleModel(3) });
    await start(root, { ...settled, replicas: 1, maxModelsPerReplica: 2 });
    await Promise.all(['a', 'b'].map(ask));
    writeFileSync(join(root, 'c.onnx'), scaleModel(4));
    await engine.models.deploy('d', { 'model.onnx': scaleModel(5) });
    await engine.models.register('e', scaleModel(6));
    expect(
      engine
        .status()
        .replicas[0]?.models.map(({ id }) => id)
        .toSorted(),
    ).toEqual(['a', 'b']);
    expect(await Promise.all(['c', 'd', 'e'].map(ask))).toEqual([4, 5, 6]);
  });
});
