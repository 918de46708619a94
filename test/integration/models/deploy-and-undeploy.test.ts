import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory, writeFiles } from '../../support/directories.js';
import { code, one, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { scaleModel, slowRunModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const { ask, metric } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine } = await startModels(models, options));
}

afterEach(() => engine?.destroy());

describe('deploy and undeploy', () => {
  it('add a model and take it away', async () => {
    const root = directory();
    await start(root);
    expect(await engine.models.deploy('a', { 'model.onnx': scaleModel(2) })).toMatchObject({ id: 'a', version: 1 });
    expect(await ask('a')).toBe(2);
    expect(await code(engine.models.deploy('a', { 'model.onnx': scaleModel(3) }))).toBe('MODEL_ALREADY_EXISTS');
    await engine.models.undeploy('a');
    expect(await Promise.all([code(ask('a')), code(engine.models.undeploy('a'))])).toEqual([
      ...['MODEL_NOT_FOUND', 'MODEL_NOT_FOUND'],
    ]);
    expect([existsSync(join(root, 'a')), engine.models.list(), await metric('infermux_loaded_models')]).toEqual([
      false,
      [],
      0,
    ]);
    expect(await code(engine.models.deploy('../a', { 'model.onnx': '' }))).toBe('INVALID_ARGUMENT');
  });

  it('answer what was accepted before a model goes', async () => {
    await start(directory({ 'slow.onnx': slowRunModel(20) }), { replicas: 1 });
    const runs = Array.from({ length: 10 }, () => engine.run('slow', one));
    const undeployed = engine.models.undeploy('slow');
    await Promise.all(runs);
    await undeployed;
    expect(await code(engine.run('slow', one))).toBe('MODEL_NOT_FOUND');
  });

  it('add a version, which takes the place of the one before once it is loaded', async () => {
    const root = directory({ 'a/1/model.onnx': scaleModel(2) });
    await start(root);
    expect(await ask('a')).toBe(2);
    await engine.models.deploy('a@2', { 'model.onnx': scaleModel(3) });
    expect([await ask('a'), await ask('a@2'), await code(ask('a@1'))]).toEqual([3, 3, 'MODEL_NOT_FOUND']);
    // All or nothing: what cannot take its place is not there.
    expect(await code(engine.models.deploy('a@3', { 'model.onnx': 'no model' }))).toBe('MODEL_LOAD_FAILED');
    expect([await ask('a'), engine.models.get('a').problem, existsSync(join(root, 'a', '3'))]).toEqual([
      3,
      undefined,
      false,
    ]);
    await engine.models.undeploy('a@2');
    expect(await ask('a')).toBe(2);
  });

  it('take away the last version with its folder, and a version of a model that has one only', async () => {
    const root = directory({ 'plain.onnx': scaleModel(2) });
    await start(root);
    await engine.models.deploy('a@1', { 'model.onnx': scaleModel(2) });
    await engine.models.undeploy('a@1');
    await engine.models.undeploy('plain@1');
    expect(engine.models.list()).toEqual([]);
    await engine.models.deploy('a', { 'model.onnx': scaleModel(3) });
    expect(await ask('a')).toBe(3);
  });

  it('take away one version only, whatever has come beside it since', async () => {
    const root = directory();
    await start(root);
    await engine.models.deploy('a@1', { 'model.onnx': scaleModel(2) });
    writeFiles(root, { 'a/2/model.onnx': scaleModel(3) });
    await engine.models.undeploy('a@1');
    expect([existsSync(join(root, 'a', '1')), await ask('a')]).toEqual([false, 3]);
  });

  it('forget that a model was pinned, and do not let another version keep a good one away', async () => {
    const root = directory({ 'a/1/model.onnx': scaleModel(2) });
    await start(root, { repository: { versions: 'all' } });
    await engine.models.load('a', { pin: true });
    writeFiles(root, { 'a/1/model.onnx': 'broken' });
    expect(await engine.models.deploy('a@2', { 'model.onnx': scaleModel(3) })).toMatchObject({ version: 2 });
    expect([await ask('a@1'), await ask('a@2')]).toEqual([2, 3]);
    await engine.models.undeploy('a');
    expect(await engine.models.deploy('a', { 'model.onnx': scaleModel(4) })).toMatchObject({ isPinned: false });
  });

  it('and all else at once leave no session that nobody can ask for', async () => {
    const root = directory();
    await start(root, { repository: { settleMs: 0 }, maxModelsPerReplica: 4 });
    const ids = ['a', 'b', 'c'];
    let seed = 1;
    const random = (below: number) => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed % below;
    };
    const calls: Promise<string>[] = [];
    for (let count = 0; count < 150; count += 1) {
      const id = ids[random(3)] as string;
      const model = scaleModel(1 + random(9));
      const operations = [
        () => engine.models.deploy(id, { 'model.onnx': model, 'model.json': `{ "pinned": ${random(4) === 0} }` }),
        () => engine.models.undeploy(id),
        () => engine.models.load(id, { replicas: 'all', pin: random(2) === 0 }),
        () => engine.models.unload(id),
        () => engine.models.sync(),
        () => engine.models.sync({ wait: false, load: true }),
        () => ask(id),
        async () => {
          if (existsSync(join(root, id))) writeFileSync(join(root, id, 'model.onnx'), model);
        },
      ];
      calls.push(code((operations[random(operations.length)] as () => Promise<unknown>)()));
      if (random(3) === 0) await calls[random(calls.length)];
    }
    const allowed = ['done', 'MODEL_NOT_FOUND', 'MODEL_ALREADY_EXISTS', 'FAILED_PRECONDITION', 'MODEL_LOAD_FAILED'];
    expect((await Promise.all(calls)).filter((answer) => !allowed.includes(answer))).toEqual([]);
    await engine.models.sync();
    for (const id of ids) await code(engine.models.undeploy(id));
    await until(() => engine.status().replicas.every(({ models }) => models.length === 0));
    expect(engine.models.list()).toEqual([]);
  });
});
