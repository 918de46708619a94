import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type EngineOptions, type InferenceEngine, type InfermuxError } from '../../dist/index.js';
import { directory, writeFiles } from '../support/directories.js';
import { externalModel, scaleModel, slowLoadModel, slowRunModel } from '../support/onnx-models.js';
import { areSharedModelsHere, SHARED_MODELS } from '../support/shared-models.js';
import { until } from '../support/until.js';

let engine: InferenceEngine;
let logged: string[];
const ignore = () => undefined;

async function start(models: EngineOptions['models'], options: EngineOptions = {}): Promise<InferenceEngine> {
  logged = [];
  const note = ((fields: { model?: string; reason?: string }, message: string) =>
    logged.push([message, fields.model, fields.reason].filter(Boolean).join(': '))) as never;
  engine = await createEngine({
    ...{ models, replicas: 2, logger: { debug: ignore, info: note, warn: note, error: note } },
    ...options,
  } as EngineOptions);
  return engine;
}

afterEach(() => engine?.destroy());

const row = { x: { dims: [1, 4], data: Float32Array.of(1, 1, 1, 1) } };
const one = { x: { dims: [1], data: Float32Array.of(1) } };
const ask = async (target: string) => Number((await engine.run(target, row))['y']?.data[0]);
const code = (call: Promise<unknown>) =>
  call.then(
    () => 'done',
    (error: InfermuxError) => error.code,
  );
const stateOf = (target: string) => engine.models.get(target).replicas.map(({ state }) => state);

async function metric(name: string): Promise<number> {
  const { values } = (await engine.metrics.getSingleMetric(name)?.get()) ?? { values: [] };
  return values
    .filter((value) => [undefined, `${name}_count`].includes((value as { metricName?: string }).metricName))
    .reduce((sum, { value }) => sum + value, 0);
}

describe('load and unload', () => {
  it('put a model into so many replicas, and take it out again', async () => {
    await start(directory({ 'double.onnx': scaleModel(2) }));
    expect(stateOf('double')).toEqual(['not loaded', 'not loaded']);
    await engine.models.load('double');
    expect(stateOf('double').sort()).toEqual(['loaded', 'not loaded']);
    const report = await engine.models.load('double@1', { replicas: 'all' });
    expect(report).toMatchObject({ id: 'double', version: 1, isDefault: true, format: 'onnx', weights: 'private' });
    expect(stateOf('double')).toEqual(['loaded', 'loaded']);
    const { bytes } = report;
    expect([await metric('infermux_loaded_models'), await metric('infermux_total_loaded_models_size_bytes')]).toEqual([
      2,
      2 * bytes,
    ]);
    expect(await engine.models.unload('double')).toBe(2 * bytes);
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

  it('unload everything at once', async () => {
    await start(directory({ 'a.onnx': scaleModel(2), 'b.onnx': scaleModel(3) }));
    await Promise.all(['a', 'b'].map((id) => engine.models.load(id, { replicas: 'all' })));
    expect(await engine.models.unloadAll()).toBe(2 * (engine.models.size('a') + engine.models.size('b')));
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
      }),
    );
    expect(await ask('good')).toBe(2);
    await expect(ask('bad')).rejects.toMatchObject({
      code: 'MODEL_LOAD_FAILED',
      message: expect.stringContaining('warm-up run 1 failed'),
    });
    await expect(ask('short')).rejects.toThrow('has dims for 4 elements, and data has 1');
  });

  it('session options go before those of the engine', async () => {
    const files = {
      'a/model.onnx': scaleModel(2),
      'a/model.json': manifest({ session: { executionProviders: ['cpu'] } }),
    };
    await start(directory({ ...files, 'b.onnx': scaleModel(3) }), { session: { executionProviders: ['nonesuch'] } });
    expect([await ask('a'), await code(ask('b'))]).toEqual([2, 'MODEL_LOAD_FAILED']);
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

describe('inspect', () => {
  it('loads a model if need be, and tells its report, inputs, outputs, producer and operator sets', async () => {
    await start(directory({ 'a.onnx': scaleModel(2), 'slow.onnx': slowRunModel(1, 4) }));
    const inspection = await engine.models.inspect('a');
    expect(inspection).toEqual({
      ...engine.models.get('a'),
      inputs: [{ name: 'x', type: 'float32', shape: ['N', 4] }],
      outputs: [{ name: 'y', type: 'float32', shape: ['N', 4] }],
      producer: 'infermux native-models',
      opsets: { 'ai.onnx': 17 },
      whyNotBatched: undefined,
    });
    expect(stateOf('a').sort()).toEqual(['loaded', 'not loaded']);
    expect(await engine.models.inspect('a@1')).toEqual(inspection);
    expect(await metric('infermux_load_model_duration_seconds')).toBe(1);
    expect((await engine.models.inspect('slow')).whyNotBatched).toBe('the first dimension of input "x" is always 1');
  });

  it('knows no producer of a model in memory', async () => {
    await start({ a: { bytes: scaleModel(2), batching: false } });
    expect(await engine.models.inspect('a')).toMatchObject({
      inputs: [{ name: 'x' }],
      producer: undefined,
      opsets: undefined,
      whyNotBatched: expect.stringContaining('its own "batching" is false'),
    });
  });

  it.skipIf(!areSharedModelsHere)('knows no producer of the ORT format', async () => {
    await start({ a: join(SHARED_MODELS, 'cases', 'mnist-ort-format-onnxjs', 'model.ort') });
    expect(await engine.models.inspect('a')).toMatchObject({ format: 'ort', producer: undefined, opsets: undefined });
  });

  it('is refused as retrieve is', async () => {
    await start(directory({ 'a.onnx': scaleModel(2), 'bad.onnx': 'no model' }), { repository: { lazy: false } });
    const { models } = engine;
    expect(await Promise.all(['a', 'b', ''].map((id) => code(models.inspect(id))))).toEqual([
      ...['FAILED_PRECONDITION', 'MODEL_NOT_FOUND', 'INVALID_ARGUMENT'],
    ]);
    await models.load('a');
    expect((await models.inspect('a')).inputs).toHaveLength(1);
    await engine.close();
    expect(await code(models.inspect('a'))).toBe('ENGINE_CLOSED');
  });
});

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

describe('a directory that changes under traffic', () => {
  it('loses no request: new, changed, half-written, broken, removed and unreadable', async () => {
    const root = directory({ 'steady.onnx': scaleModel(2), 'changing.onnx': scaleModel(10) });
    await start(root, { repository: { pollMs: 10, settleMs: 10 } });
    let isOver = false;
    let answered = 0;
    const strange: unknown[] = [];
    let allowed = new Set<unknown>([10]);
    const caller = async (target: string, mayBe: () => ReadonlySet<unknown>) => {
      while (!isOver && engine.status().state === 'running') {
        // What was accepted before a change is answered as it was.
        const accepted = mayBe();
        const answer = await ask(target).catch((error: InfermuxError) => error.code);
        if (!accepted.has(answer) && !mayBe().has(answer)) strange.push([target, answer]);
        answered += 1;
        // A refusal is there at once, and nothing else would have its turn.
        await new Promise(setImmediate);
      }
    };
    const steady = new Set([2]);
    const callers = [
      ...Array.from({ length: 4 }, () => caller('steady', () => steady)),
      ...Array.from({ length: 4 }, () => caller('changing', () => allowed)),
    ];
    const more = async () => {
      const before = answered;
      await until(() => answered > before + 100);
    };
    const onlyFrom = async (factor: number) => {
      allowed = new Set([factor]);
      await more();
    };

    await more();
    writeFiles(root, { 'new.onnx': scaleModel(5) });
    await until(() => engine.models.list().some(({ id }) => id === 'new'));
    expect(await ask('new')).toBe(5);

    allowed = new Set([10, 20]);
    writeFileSync(join(root, '.next'), scaleModel(20));
    renameSync(join(root, '.next'), join(root, 'changing.onnx'));
    await until(() => logged.includes('model changed: changing'));
    await onlyFrom(20);

    // In place and piece by piece, as a copy does it.
    const next = scaleModel(30);
    writeFileSync(join(root, 'changing.onnx'), next.subarray(0, next.length / 2));
    await until(() => engine.models.get('changing').problem !== undefined);
    await more();
    allowed = new Set([20, 30]);
    writeFileSync(join(root, 'changing.onnx'), next);
    await until(() => logged.filter((line) => line === 'model changed: changing').length === 2);
    await onlyFrom(30);

    rmSync(join(root, 'new.onnx'));
    await until(() => !engine.models.list().some(({ id }) => id === 'new'));
    expect(await code(ask('new'))).toBe('MODEL_NOT_FOUND');

    renameSync(root, `${root}-away`);
    await until(() => logged.some((line) => line.startsWith('the directory of models cannot be read')));
    await more();
    expect(await code(engine.models.sync())).toBe('FAILED_PRECONDITION');
    renameSync(`${root}-away`, root);
    await until(() => logged.includes('the directory of models can be read again'));

    allowed = new Set([30, 'MODEL_NOT_FOUND']);
    rmSync(join(root, 'changing.onnx'));
    await until(() => !engine.models.list().some(({ id }) => id === 'changing'));
    await more();
    isOver = true;
    await Promise.all(callers);
    expect(strange).toEqual([]);
    const others = () => engine.status().replicas.flatMap(({ models }) => models.filter(({ id }) => id !== 'steady'));
    await until(() => others().length === 0);
  });

  it('keeps a version that works when a broken one comes, even where there is place for one session only', async () => {
    const root = directory({ 'a/1/model.onnx': scaleModel(2) });
    await start(root, { replicas: 1, maxModelsPerReplica: 1 });
    expect(await ask('a')).toBe(2);
    writeFiles(root, { 'a/2/model.onnx': 'no model' });
    const report = await engine.models.sync();
    expect(report.failed).toMatchObject([{ id: 'a', error: { code: 'MODEL_LOAD_FAILED' } }]);
    expect(await ask('a')).toBe(2);
    expect(await metric('infermux_model_unloads_total')).toBe(0);
    writeFiles(root, { 'a/3/model.onnx': scaleModel(4) });
    expect(await engine.models.sync()).toMatchObject({ changed: ['a'] });
    expect(await ask('a')).toBe(4);
    expect(engine.status().replicas[0]?.models).toEqual([{ id: 'a', version: 3, state: 'loaded' }]);
  });

  it('finishes what is half copied when the engine starts, though it is not followed', async () => {
    const root = directory();
    const model = scaleModel(2);
    mkdirSync(join(root, 'a'));
    let length = 0;
    const path = join(root, 'a', 'model.onnx');
    const timer = setInterval(() => {
      length = Math.min(length + 1, model.length);
      writeFileSync(path, model.subarray(0, length));
    }, 1);
    writeFileSync(path, '');
    await start(root, { repository: { settleMs: 40 } });
    clearInterval(timer);
    writeFileSync(path, model);
    await until(() => engine.models.list().length === 1);
    expect(await ask('a')).toBe(2);
  });
});
