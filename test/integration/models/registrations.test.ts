import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { code, one, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { scaleModel, slowRunModel } from '../../support/onnx-models.js';

let engine: InferenceEngine;
let logged: string[];
const { ask, stateOf } = questionsTo(() => engine);

async function start(models?: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine, logged } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

const fileOf = (factor: number) => join(directory({ 'some.onnx': scaleModel(factor) }), 'some.onnx');

describe('a model that is registered while the engine runs', () => {
  it.each<[string, () => EngineOptions['models']]>([
    ['in no place', () => undefined],
    ['in a directory', () => directory({ 'there.onnx': scaleModel(9) })],
    ['by id', () => ({ there: scaleModel(9) })],
    ['with a finder', () => ({ find: () => undefined })],
  ])('is served where others are %s: from a path, a URL, bytes, and with settings', async (_, modelsOf) => {
    await start(modelsOf());
    expect(await engine.models.register('a', fileOf(2))).toMatchObject({ id: 'a', version: 1, problem: undefined });
    await engine.models.register('b', new URL(`file://${fileOf(3)}`));
    await engine.models.register('c', scaleModel(4));
    await engine.models.register('d', { path: fileOf(5), version: 7, pinned: true, batching: false });
    expect(await Promise.all(['a', 'b', 'c', 'd@7'].map(ask))).toEqual([2, 3, 4, 5]);
    expect(engine.models.get('d')).toMatchObject({ version: 7, isPinned: true });
    for (const id of ['a', 'b', 'c', 'd']) await engine.models.unregister(id);
    expect(await Promise.all(['a', 'b', 'c', 'd@7'].map((id) => code(ask(id))))).toEqual(
      Array(4).fill('MODEL_NOT_FOUND'),
    );
    expect(engine.status().replicas.flatMap(({ models }) => models)).toEqual([]);
  });

  it('is what its source was at the call', async () => {
    await start();
    const [bytes, source] = [scaleModel(2), { path: fileOf(3) }];
    const registered = [engine.models.register('a', bytes), engine.models.register('b', source)];
    bytes.fill(0);
    source.path = '/nowhere/model.onnx';
    await Promise.all(registered);
    expect(await Promise.all(['a', 'b'].map(ask))).toEqual([2, 3]);
  });

  it('has versions, each of which can be replaced and taken away', async () => {
    await start({ a: scaleModel(1) });
    await engine.models.register('a@3', scaleModel(3));
    await engine.models.register('a@2', scaleModel(2));
    expect(await Promise.all(['a', 'a@1', 'a@2', 'a@3'].map(ask))).toEqual([3, 1, 2, 3]);
    await engine.models.register('a@2', scaleModel(20));
    expect(await ask('a@2')).toBe(20);
    await engine.models.unregister('a@3');
    expect([await ask('a'), await code(ask('a@3'))]).toEqual([20, 'MODEL_NOT_FOUND']);
    await engine.models.unregister('a');
    expect(engine.models.list()).toEqual([]);
  });

  it('must load before it is served, and what was there stays', async () => {
    await start({ a: scaleModel(1) });
    const junk = Uint8Array.of(1, 2, 3, 4);
    expect(await code(engine.models.register('b', junk))).toBe('MODEL_LOAD_FAILED');
    expect(await code(engine.models.register('a', junk))).toBe('MODEL_LOAD_FAILED');
    expect(await code(engine.models.register('a@2', junk))).toBe('MODEL_LOAD_FAILED');
    expect(engine.models.list()).toMatchObject([{ id: 'a', version: 1, problem: undefined }]);
    expect([await ask('a'), await code(ask('b'))]).toEqual([1, 'MODEL_NOT_FOUND']);
    await engine.models.register('b', junk, { verify: false });
    expect(await code(ask('b'))).toBe('MODEL_LOAD_FAILED');
  });

  it('is loaded where the options say so, and not before it is wanted where they do not', async () => {
    await start();
    await engine.models.register('a', scaleModel(2));
    await engine.models.register('b', scaleModel(2), { load: true });
    await engine.models.register('c', scaleModel(2), { replicas: 'all' });
    await engine.models.register('d', scaleModel(2), { pin: true });
    expect(stateOf('a')).not.toContain('loaded');
    expect(stateOf('b').filter((state) => state === 'loaded')).toHaveLength(1);
    expect(stateOf('c')).toEqual(['loaded', 'loaded']);
    expect(engine.models.get('d').isPinned).toBe(true);
  });

  it('answers what was accepted before it is taken away', async () => {
    await start(undefined, { replicas: 1 });
    await engine.models.register('slow', slowRunModel(20));
    const runs = Array.from({ length: 5 }, () => engine.run('slow', one));
    const gone = engine.models.unregister('slow');
    expect(await Promise.all(runs)).toHaveLength(5);
    await gone;
    expect(await code(engine.run('slow', one))).toBe('MODEL_NOT_FOUND');
  });

  it('may have a finder of its own, which is asked when the model is wanted', async () => {
    await start({ find: () => undefined }, { modelCache: { directory: directory() } });
    const asked: unknown[] = [];
    const finder = {
      find: (id: string, { version }: { version: number | undefined }) => {
        asked.push([id, version]);
        return fileOf(version ?? 6);
      },
    };
    expect(await code(ask('a'))).toBe('MODEL_NOT_FOUND');
    expect(await engine.models.register('a', finder)).toBe(undefined);
    expect(asked).toEqual([]);
    expect([await ask('a'), await ask('a@7'), await code(ask('b'))]).toEqual([6, 7, 'MODEL_NOT_FOUND']);
    expect(asked).toEqual([
      ['a', undefined],
      ['a', 7],
    ]);
    await engine.models.unregister('a');
    expect(await code(ask('a'))).toBe('MODEL_NOT_FOUND');
    expect(await engine.models.register('c', finder, { load: true })).toMatchObject({ id: 'c', version: 1 });
  });

  it('gives way to nothing, and takes the place of nothing', async () => {
    const root = directory({ 'there.onnx': scaleModel(9) });
    await start(root);
    expect(await code(engine.models.register('there', scaleModel(1)))).toBe('MODEL_ALREADY_EXISTS');
    await engine.models.register('mine', scaleModel(1));
    expect(await code(engine.models.deploy('mine', { 'model.onnx': scaleModel(2) }))).toBe('MODEL_ALREADY_EXISTS');
    expect(await code(engine.models.undeploy('mine'))).toBe('FAILED_PRECONDITION');
    expect(await code(engine.models.unregister('there'))).toBe('MODEL_NOT_FOUND');
    writeFileSync(join(root, 'mine.onnx'), scaleModel(3));
    const { failed } = await engine.models.sync();
    expect(failed).toMatchObject([{ id: 'mine', error: { code: 'MODEL_ALREADY_EXISTS' } }]);
    expect(await ask('mine')).toBe(1);
    await engine.models.unregister('mine');
    // Now the one in the directory has the name.
    await engine.models.sync();
    expect(await ask('mine')).toBe(3);
  });

  it.each<[string, string, unknown, string]>([
    ['no id', '', 'x.onnx', 'model id cannot be empty'],
    ['an id with "@" and no version', 'a@b', 'x.onnx', 'id@version'],
    ['no source', 'a', undefined, 'the source of model "a"'],
    ['a source of another kind', 'a', 7, 'the source of model "a"'],
    ['a path and bytes', 'a', { path: 'x', bytes: Uint8Array.of(1) }, 'either a path or bytes'],
    ['two versions', 'a@2', { path: 'x', version: 3 }, 'has version 3'],
    ['a finder and a version', 'a@2', { find: () => undefined }, 'leave out the version'],
  ])('is refused with %s', async (_, target, source, message) => {
    await start();
    await expect(engine.models.register(target, source as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(message),
    });
    expect(engine.models.list()).toEqual([]);
  });

  it('is refused when its file is not there, or its options contradict each other', async () => {
    await start();
    expect(await code(engine.models.register('a', '/nowhere/a.onnx'))).toBe('FAILED_PRECONDITION');
    expect(await code(engine.models.register('a', scaleModel(1), { load: false, pin: true }))).toBe('INVALID_ARGUMENT');
    expect(await code(engine.models.register('a', scaleModel(1), { replicas: 3 }))).toBe('INVALID_ARGUMENT');
    expect(await code(engine.models.unregister('a'))).toBe('MODEL_NOT_FOUND');
  });
});

describe('registrations beside other changes', () => {
  it('leave one of two that take the same id: a model of the directory is never hidden', async () => {
    for (let time = 0; time < 5; time += 1) {
      const root = directory();
      await start(root, { repository: { settleMs: 0 } });
      const registered = code(engine.models.register('a', scaleModel(2)));
      const deployed = code(engine.models.deploy('a', { 'model.onnx': scaleModel(3) }));
      const outcomes = await Promise.all([registered, deployed]);
      expect(outcomes.toSorted()).toEqual(['MODEL_ALREADY_EXISTS', 'done']);
      expect(await ask('a')).toBe(outcomes[0] === 'done' ? 2 : 3);
      await engine.destroy();
    }
  });

  it('say of a version that does not load why it is not served', async () => {
    const file = fileOf(2);
    await start();
    await engine.models.register('a@1', fileOf(1));
    await engine.models.register('a@2', file, { verify: false });
    writeFileSync(file, Uint8Array.of(1, 2, 3));
    expect(await code(ask('a@2'))).toBe('MODEL_LOAD_FAILED');
    expect(await ask('a@1')).toBe(1);
  });

  it('end what a finder looks for when the finder is taken away', async () => {
    let answer: (found: { bytes: Uint8Array }) => void = () => undefined;
    const found = new Promise<{ bytes: Uint8Array }>((resolve) => {
      answer = resolve;
    });
    await start();
    let asked: () => void = () => undefined;
    const isAsked = new Promise<void>((resolve) => {
      asked = resolve;
    });
    await engine.models.register('a', {
      find: () => {
        asked();
        return found;
      },
    });
    const early = code(ask('a'));
    await isAsked;
    await engine.models.unregister('a');
    answer({ bytes: scaleModel(2) });
    expect(await early).toBe('MODEL_NOT_FOUND');
    expect(engine.models.list()).toEqual([]);
    await engine.models.register('a', { find: () => ({ bytes: scaleModel(3) }) });
    expect(await ask('a')).toBe(3);
  });
});

describe('a checkpoint', () => {
  it('brings back what has a path and is still there; what the options name now goes before it', async () => {
    const checkpoint = { file: join(directory(), 'checkpoint.json') };
    const [kept, gone, other] = [fileOf(2), fileOf(3), fileOf(4)];
    await start(undefined, { checkpoint });
    await engine.models.register('kept@5', { path: kept, batching: false });
    await engine.models.register('gone', gone);
    await engine.models.register('other', other);
    await engine.models.register('bytes', scaleModel(7));
    await engine.models.register('taken back', other);
    await engine.models.unregister('taken back');
    await engine.close();
    rmSync(gone);
    await start({ other: scaleModel(40) }, { checkpoint });
    expect(engine.models.list().map(({ id, version }) => [id, version])).toEqual([
      ['other', 1],
      ['kept', 5],
    ]);
    expect([await ask('kept'), await ask('other')]).toEqual([2, 40]);
    expect(logged.filter((line) => line.startsWith('a model of the checkpoint is not registered again'))).toHaveLength(
      1,
    );
  });

  it('keeps what is not there at present for the next start; what the options name goes before a version of it', async () => {
    const checkpoint = { file: join(directory(), 'checkpoint.json') };
    const [gone, other] = [fileOf(3), fileOf(4)];
    await start(undefined, { checkpoint });
    await engine.models.register('gone', gone);
    await engine.models.register('o@2', other);
    await engine.close();
    rmSync(gone);
    await start({ o: scaleModel(40) }, { checkpoint });
    expect(await Promise.all(['o', 'o@1', 'o@2'].map(ask))).toEqual([4, 40, 4]);
    await engine.models.register('more', other);
    await engine.close();
    writeFileSync(gone, scaleModel(5));
    await start(undefined, { checkpoint });
    expect(await Promise.all(['gone', 'o@2', 'more'].map(ask))).toEqual([5, 4, 4]);
  });
});
