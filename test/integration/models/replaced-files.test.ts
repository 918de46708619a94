import { existsSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory, writeFiles } from '../../support/directories.js';
import { code, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { changeMode, writeLongAgo } from '../../support/file-times.js';
import { denseModel, externalModel, scaleModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
let logged: string[];
const { ask } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine, logged } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

const isChanged = (id: string) => () => logged.includes(`model changed: ${id}`);
const anotherFile = {
  ...{
    code: 'MODEL_LOAD_FAILED',
    retryable: true,
    message: expect.stringContaining('has changed since the model was registered'),
  },
};

describe('a file that is another one at the next load', () => {
  it.each(['a file by path', 'a directory'])('of %s never answers under the version of the first', async (source) => {
    const root = directory();
    const path = join(root, 'a.onnx');
    writeLongAgo(path, scaleModel(2));
    await start(source === 'a directory' ? root : { a: path });
    expect(await ask('a')).toBe(2);
    writeLongAgo(path, scaleModel(3));
    await expect(engine.models.load('a', { replicas: 'all' })).rejects.toMatchObject(anotherFile);
    // It is looked at again though nothing is followed, and replaces what one replica has.
    await until(isChanged('a'));
    await engine.models.load('a', { replicas: 'all' });
    expect(new Set(await Promise.all(Array.from({ length: 50 }, () => ask('a'))))).toEqual(new Set([3]));
    await engine.models.unload('a');
    writeLongAgo(path, scaleModel(4));
    await expect(ask('a')).rejects.toMatchObject(anotherFile);
    await until(() => logged.filter((line) => line === 'model changed: a').length === 2);
    expect(await ask('a')).toBe(4);
  });

  it('may be its external data', async () => {
    const root = directory();
    const { model, weights } = externalModel('weights.bin', 8);
    writeLongAgo(join(root, 'model.onnx'), model);
    writeLongAgo(join(root, 'weights.bin'), weights);
    await start({ a: join(root, 'model.onnx') });
    writeLongAgo(join(root, 'weights.bin'), new Uint8Array(weights.byteLength));
    await expect(engine.models.load('a')).rejects.toMatchObject(anotherFile);
    await until(isChanged('a'));
    const { y } = await engine.run('a', { x: { dims: [1, 8], data: new Float32Array(8) } });
    expect(y?.data).toEqual(new Float32Array(8));
  });

  it('may have weights that are shared', async () => {
    const path = join(directory(), 'a.onnx');
    const shared = { weights: 'shared', weightStore: { directory: directory() } } as const;
    writeLongAgo(path, denseModel(300, 4));
    await start({ a: path }, shared);
    await engine.models.load('a');
    const x = { x: { dims: [1, 300], data: new Float32Array(300).fill(1) } };
    const first = await engine.run('a', x);
    const other = denseModel(300, 4);
    // The last weights of all, so that the size stays.
    const at = Buffer.from(other).lastIndexOf(
      Buffer.from(Float32Array.of(Math.fround(Math.sin(89_999 + 3) / 300)).buffer),
    );
    other.set(new Uint8Array(Float32Array.of(1_000).buffer), at);
    writeLongAgo(path, other);
    await expect(engine.models.load('a', { replicas: 'all' })).rejects.toMatchObject(anotherFile);
    await until(isChanged('a'));
    await engine.models.load('a', { replicas: 'all' });
    const second = await Promise.all(Array.from({ length: 20 }, () => engine.run('a', x)));
    expect(at).toBeGreaterThan(0);
    expect(second.every(({ y }) => y?.data[299] !== first['y']?.data[299])).toBe(true);
  });

  it('is the same when only its mode has changed', async () => {
    const path = join(directory(), 'a.onnx');
    writeLongAgo(path, scaleModel(2));
    await start({ a: path });
    expect(await ask('a')).toBe(2);
    changeMode(path);
    await engine.models.load('a', { replicas: 'all' });
    expect([await ask('a'), logged.some((line) => line.startsWith('model changed'))]).toEqual([2, false]);
  });

  it('that does not load keeps the first one where it is loaded, and says why', async () => {
    const path = join(directory(), 'a.onnx');
    writeLongAgo(path, scaleModel(2));
    await start({ a: path });
    expect(await ask('a')).toBe(2);
    writeLongAgo(path, 'x'.repeat(scaleModel(2).byteLength));
    await expect(engine.models.load('a', { replicas: 'all' })).rejects.toMatchObject(anotherFile);
    await until(() => engine.models.get('a').problem !== undefined);
    expect([await ask('a'), engine.models.get('a').problem]).toEqual([2, expect.stringContaining('not an ONNX')]);
  });
});

describe('what is served is replaced only by what loads', () => {
  it('though nobody has asked for it: a version that is copied, deployed, or has damaged external data', async () => {
    const root = directory({ 'a/1/model.onnx': scaleModel(2) });
    await start(root, { repository: { settleMs: 0 } });
    writeFiles(root, { 'a/2/model.onnx': scaleModel(3).subarray(0, 40) });
    expect((await engine.models.sync({ load: false })).failed).toMatchObject([{ id: 'a' }]);
    rmSync(join(root, 'a', '2'), { recursive: true });
    const damaged = { 'model.onnx': externalModel('weights.bin').model, 'weights.bin': 'cut' };
    expect(await code(engine.models.deploy('a@3', damaged))).toBe('MODEL_LOAD_FAILED');
    expect(existsSync(join(root, 'a', '3'))).toBe(false);
    writeFiles(root, { 'a/4/model.onnx': scaleModel(4), 'a/4/model.json': '{ "pinned": 1 }' });
    expect((await engine.models.sync()).failed).toMatchObject([{ id: 'a', error: { code: 'INVALID_ARGUMENT' } }]);
    expect([await ask('a'), await ask('a@1')]).toEqual([2, 2]);
    rmSync(join(root, 'a', '4', 'model.json'));
    expect(await engine.models.sync()).toMatchObject({ changed: ['a'], failed: [] });
    expect(await ask('a')).toBe(4);
  });

  it('and a whole directory that is replaced costs those in use no session', async () => {
    const ids = Array.from({ length: 12 }, (_, index) => `m${index}`);
    const root = directory(Object.fromEntries(ids.map((id) => [`${id}.onnx`, scaleModel(2)])));
    const hot = ['hot0', 'hot1', 'hot2'];
    writeFiles(root, Object.fromEntries(hot.map((id) => [`${id}.onnx`, scaleModel(5)])));
    await start(root, { replicas: 1, maxModelsPerReplica: 3, repository: { settleMs: 0 } });
    for (const id of hot) await ask(id);
    writeFiles(root, Object.fromEntries(ids.map((id) => [`${id}.onnx`, scaleModel(3)])));
    expect((await engine.models.sync()).changed).toHaveLength(12);
    const loaded = engine.status().replicas[0]?.models.map(({ id }) => id);
    expect(loaded?.toSorted()).toEqual(hot);
    expect(await ask('m7')).toBe(3);
  });

  it('and a broken version keeps what was served of it, and no other version back', async () => {
    const root = directory({ 'a/1/model.onnx': scaleModel(2), 'a/2/model.onnx': scaleModel(3) });
    await start(root, { repository: { versions: 'all', settleMs: 0 } });
    writeFiles(root, { 'a/2/model.json': '{', 'a/3/model.onnx': scaleModel(4) });
    const { changed, failed } = await engine.models.sync();
    expect([changed, failed.map(({ id, error }) => `${id}: ${error.code}`)]).toEqual([['a'], ['a: INVALID_ARGUMENT']]);
    expect([await ask('a'), await ask('a@1'), await ask('a@2')]).toEqual([4, 2, 3]);
    expect(await engine.models.sync()).toMatchObject({ changed: [], failed: [{ id: 'a' }] });
    writeFiles(root, { 'a/2/model.json': '{}' });
    expect(await engine.models.sync()).toMatchObject({ changed: ['a'], failed: [] });
    expect(await ask('a@2')).toBe(3);
  });

  it('and a broken version is said when it is asked for, from the start on', async () => {
    const root = directory({ 'a/1/model.onnx': scaleModel(2), 'a/2/model.onnx': scaleModel(3), 'a/2/model.json': '{' });
    await start(root, { repository: { versions: 'all' } });
    expect(await ask('a')).toBe(2);
    await expect(ask('a@2')).rejects.toThrow('found, but not served: 2');
    await expect(ask('a@2')).rejects.toThrow('is not JSON');
  });

  it('and waits for a replica that can try it', async () => {
    const root = directory({ 'a/1/model.onnx': scaleModel(2) });
    await start(root, {
      ...{ replicas: 0, repository: { settleMs: 0 } },
      deployments: { other: { replicas: 0 } },
    });
    writeFiles(root, { 'a/2/model.onnx': scaleModel(3) });
    const { unsettled, failed } = await engine.models.sync();
    expect([unsettled, failed]).toMatchObject([['a'], [{ id: 'a', error: { code: 'REPLICA_FAILED' } }]]);
    expect(await code(engine.models.deploy('a@3', { 'model.onnx': scaleModel(4) }))).toBe('REPLICA_FAILED');
    expect([engine.models.get('a').version, existsSync(join(root, 'a', '3'))]).toEqual([1, false]);
    await engine.deployments.update('default', { replicas: 1 });
    await until(isChanged('a'));
    expect(await ask('a')).toBe(3);
  });
});

describe('a look without an answer', () => {
  it.skipIf(process.platform !== 'linux')('is repeated though nothing is followed, from the start on', async () => {
    const root = directory({ 'b.onnx': scaleModel(2) });
    // A file of the system that is there and cannot be read.
    symlinkSync('/proc/self/mem', join(root, 'a.onnx'));
    await start(root);
    await expect(ask('a')).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED', retryable: true });
    rmSync(join(root, 'a.onnx'));
    writeFiles(root, { 'a.onnx': scaleModel(3) });
    await until(isChanged('a'));
    expect([await ask('a'), await ask('b')]).toEqual([3, 2]);
  });

  it('is one that finds nothing at all: it is repeated, and only then are the models gone', async () => {
    const root = directory({ 'a.onnx': scaleModel(2), 'README.md': 'not a model' });
    await start(root);
    expect(await ask('a')).toBe(2);
    rmSync(join(root, 'a.onnx'));
    expect(await engine.models.sync()).toMatchObject({ removed: [], unsettled: ['a'] });
    expect(await ask('a')).toBe(2);
    await until(() => logged.includes('model removed: a'));
    expect(logged.filter((line) => line.startsWith('the directory of models is empty'))).toHaveLength(1);
    expect(await code(ask('a'))).toBe('MODEL_NOT_FOUND');
  });
});
