import { spawn } from 'node:child_process';
import { chmodSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type EngineOptions, type InferenceEngine, type RequestRouter } from '../../dist/index.js';
import { directory } from '../support/directories.js';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';
import { SteadyLoad } from '../support/steady-load.js';
import { until } from '../support/until.js';

const models = modelDirectory(Object.fromEntries([1, 2, 3].map((factor) => [`times-${factor}`, scaleModel(factor)])));
const HANDLER = new URL('../support/handler.mjs', import.meta.url);
const row = { x: { dims: [1, 4], data: Float32Array.of(5, 0, 0, 0) } };

let engine: InferenceEngine;
let file: string;
const start = async (options: EngineOptions = {}) => {
  engine = await createEngine({ models, replicas: 1, checkpoint: { file }, ...options });
  return engine;
};
const deployments = () =>
  Object.fromEntries(engine.deployments.list().map(({ name, targetReplicas }) => [name, targetReplicas]));

afterEach(() => engine?.destroy());

describe('the next engine', () => {
  it('has the router that the program declares, and what else became of the deployment', async () => {
    file = join(directory(), 'checkpoint.json');
    let asked = 0;
    const router: RequestRouter = {
      chooseReplicas: (candidates) => {
        asked += 1;
        return [candidates];
      },
    };
    await start({ router });
    await (await engine.deployments.update('default', { replicas: 2 })).done;
    await expect(engine.deployments.create('late', { router })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    await engine.close();
    await start({ router });
    expect(deployments()).toEqual({ default: 2 });
    await engine.run('times-1', row);
    expect(asked).toBe(1);
  });

  it('takes up where the last one left off, with no request lost in between', async () => {
    file = join(directory(), 'checkpoint.json');
    await start({ deployments: { declared: { replicas: 1 }, doomed: {} } });
    await engine.endpoints.set('e', { traffic: { 'times-1': 1 } });
    const load = new SteadyLoad(() => engine, ['e']);
    await (await engine.deployments.create('made', { replicas: 2, labels: { a: 'b' } })).done;
    await engine.deployments.create('handled', { handler: HANDLER, userConfig: { factor: 7 } });
    await engine.deployments.update('declared', { replicas: 2, batching: false, express: false });
    await engine.deployments.delete('doomed');
    await engine.endpoints.set('e', { traffic: { 'made/times-1': 0.5, 'times-1': 0.5 }, shadow: { 'times-2': 0.1 } });
    await engine.models.load('times-3', { pin: true, deployment: 'made', replicas: 2 });
    const before = load.answered;
    await until(() => load.answered > before + 50);
    expect(await load.stop()).toEqual([]);
    const endpoints = engine.endpoints.list();
    await engine.close();

    await start({ deployments: { declared: { replicas: 1 }, doomed: {} } });
    expect(deployments()).toEqual({ default: 1, declared: 2, made: 2, handled: 1 });
    expect(engine.deployments.get('declared').options).toMatchObject({
      ...{ replicas: 2, batching: false, express: false },
    });
    expect(engine.deployments.get('made').options.labels).toEqual([{ a: 'b' }]);
    expect(engine.endpoints.list()).toEqual(endpoints);
    expect(await engine.run<number>('handled', { do: 'run', model: 'times-1', x: row.x.data })).toBe(35);
    const pinned = engine.models.get('times-3');
    expect([pinned.isPinned, pinned.replicas.filter(({ state }) => state === 'loaded').length]).toEqual([true, 2]);
    const again = new SteadyLoad(() => engine, ['e']);
    await until(() => again.answered > 50);
    expect(await again.stop()).toEqual([]);
  });

  it('begins as it is declared, where that is otherwise than before', async () => {
    file = join(directory(), 'checkpoint.json');
    await start({ deployments: { a: { replicas: 1 }, b: { replicas: 1 } } });
    await engine.deployments.update('a', { replicas: 3 });
    await engine.deployments.delete('b');
    await engine.close();
    await start({ deployments: { a: { replicas: 2 }, b: { replicas: 2 } } });
    expect(deployments()).toEqual({ default: 1, a: 2, b: 2 });
    await engine.close();
    await start();
    expect(deployments()).toEqual({ default: 1 });
  });

  it('keeps options that name nothing', async () => {
    file = join(directory(), 'checkpoint.json');
    const healthCheck = { periodMs: undefined, failures: 5 };
    await start({ deployments: { a: { healthCheck, session: { intraOpNumThreads: undefined } } } });
    await engine.deployments.update('a', { rollingUpdate: { fraction: undefined }, maxQueuedRequests: 5 });
    await engine.close();
    await start({ deployments: { a: { healthCheck, session: { intraOpNumThreads: undefined } } } });
    const { options } = engine.deployments.get('a');
    expect(options).toMatchObject({ maxQueuedRequests: 5, healthCheck: { periodMs: 10_000, failures: 5 } });
  });

  it('takes a path for the same as its URL, and saves absolute ones', async () => {
    const folder = directory({ 'my handler ü.mjs': readFileSync(HANDLER) });
    file = join(folder, 'check point.json');
    const handler = pathToFileURL(join(folder, 'my handler ü.mjs'));
    const again = new URL('?again', handler);
    const profile = pathToFileURL(join(folder, 'profile'));
    const b = { handler: again, session: { profileFilePrefix: profile } };
    const checkpoint = { file: pathToFileURL(file) };
    await start({ models: pathToFileURL(models), checkpoint, deployments: { a: { handler }, b } });
    for (const name of ['a', 'b']) await engine.deployments.update(name, { maxQueuedRequests: 5 });
    await engine.close();
    const saved = JSON.parse(readFileSync(file, 'utf8'));
    expect(saved).toMatchObject({
      models,
      deployments: {
        a: { options: { handler: handler.href } },
        b: { options: { handler: again.href, session: { profileFilePrefix: join(folder, 'profile') } } },
      },
    });
    const paths = { a: { handler: fileURLToPath(handler) }, b: { ...b, handler: again.href } };
    engine = await createEngine({ replicas: 1, checkpoint: { file: checkpoint.file.href }, deployments: paths });
    for (const name of ['a', 'b']) expect(engine.deployments.get(name).options.maxQueuedRequests, name).toBe(5);
    expect(engine.models.list()).toHaveLength(3);
    expect((await engine.deployments.create('a', { handler, maxQueuedRequests: 5 })).status).toBe('reached');
  });

  it('finds its models, where it names none', async () => {
    file = join(directory(), 'checkpoint.json');
    await start({ models: { one: { path: join(models, 'times-1.onnx'), pinned: true }, gone: scaleModel(9) } });
    await engine.close();
    engine = await createEngine({ replicas: 1, checkpoint: { file } });
    expect(engine.models.list().map(({ id, isPinned }) => [id, isPinned])).toEqual([['one', true]]);
    expect((await engine.run('one', row))['y']?.data[0]).toBe(5);
  });
});

describe('a start that fails', () => {
  const broken = { handler: '/nowhere/handler.mjs' };

  it('leaves the checkpoint as it was', async () => {
    file = join(directory(), 'checkpoint.json');
    await start({ deployments: { a: { handler: HANDLER } } });
    await engine.deployments.update('a', { replicas: 2, maxQueuedRequests: 77 });
    await engine.close();
    const before = readFileSync(file, 'utf8');
    await expect(start({ deployments: { a: broken } })).rejects.toMatchObject({ code: 'REPLICA_FAILED' });
    expect(readFileSync(file, 'utf8')).toBe(before);
    await start({ deployments: { a: { handler: HANDLER } } });
    expect(engine.deployments.get('a').options).toMatchObject({ replicas: 2, maxQueuedRequests: 77 });
  });

  it('of what a checkpoint has can be mended once the engine runs', async () => {
    file = join(directory(), 'checkpoint.json');
    await start({ deployments: { a: { handler: HANDLER } } });
    const missed = await engine.deployments.update('a', broken);
    await expect(missed.done).rejects.toMatchObject({ code: 'REPLICA_FAILED' });
    await engine.close();
    await start({ deployments: { a: { handler: HANDLER } } });
    expect(engine.deployments.get('a')).toMatchObject({ state: 'unhealthy', ready: false });
    await (await engine.deployments.update('a', { handler: HANDLER })).done;
    expect(await engine.run<number>('a', { do: 'echo', value: 5 })).toBe(5);
  });
});

it('a change that is being written when the engine closes is refused, or is over', async () => {
  for (let turns = 0; turns < 12; turns += 1) {
    file = join(directory(), 'checkpoint.json');
    await start();
    const outcomes = Promise.all(
      [engine.deployments.update('default', { replicas: 2 }), engine.deployments.create('late')].map((change) =>
        change.then(
          ({ status }) => status,
          ({ code }) => code,
        ),
      ),
    );
    for (let turn = 0; turn < turns; turn += 1) await new Promise(setImmediate);
    await engine.close();
    for (const outcome of await outcomes) expect(['ENGINE_CLOSED', 'failed', 'reached']).toContain(outcome);
    expect(engine.status()).toMatchObject({ state: 'closed', replicas: [] });
  }
});

describe.skipIf(process.platform === 'win32')('where others may write', () => {
  const warnings: [Readonly<Record<string, unknown>>, string][] = [];
  const quiet = () => undefined;
  const logger = {
    ...{ debug: quiet, info: quiet, error: quiet },
    warn: (fields: Readonly<Record<string, unknown>>, message: string) => void warnings.push([fields, message]),
  };

  it('a handler that a checkpoint names is not run', async () => {
    const folder = directory();
    file = join(folder, 'checkpoint.json');
    const ran = join(folder, 'ran');
    const code = `import { writeFileSync } from 'node:fs';
      writeFileSync(${JSON.stringify(ran)}, '');
      export const handle = (request) => request;`;
    writeFileSync(join(folder, 'handler.mjs'), code);
    await start();
    await (await engine.deployments.create('made', { handler: join(folder, 'handler.mjs') })).done;
    await engine.close();
    rmSync(ran);
    chmodSync(file, 0o666);
    await expect(start()).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining('may be written by everybody (mode 666)'),
    });
    expect(existsSync(ran)).toBe(false);
    chmodSync(file, 0o600);
    await start();
    expect(await engine.run<number>('made', 5)).toBe(5);
  });

  it('models, handlers, the weight store and the folder of a checkpoint are each warned of once', async () => {
    const folder = directory({ 'models/none': '', 'store/none': '', 'handler.mjs': readFileSync(HANDLER) });
    const open = ['models', 'store', 'handler.mjs'].map((name) => join(folder, name));
    for (const path of [folder, ...open]) chmodSync(path, 0o777);
    file = join(folder, 'checkpoint.json');
    writeFileSync(file, '{ "format": "infermux checkpoint", "version": 1 }', { mode: 0o600 });
    const [directoryOfModels = '', store = '', handler = ''] = open;
    const options = { models: directoryOfModels, weightStore: { directory: store }, logger };
    await start({ ...options, deployments: { a: { handler, replicas: 2 }, b: { handler } } });
    await (await engine.deployments.update('a', { userConfig: 1, replicas: 3 })).done;
    const told = () => warnings.filter(([, message]) => message.includes('changed by others'));
    await until(() => told().length === 4);
    expect(told().map(([{ path }]) => path)).toEqual([undefined, ...open]);
    expect(told()[0]?.[0]['reason']).toContain('lies in a folder that may be written by everybody (mode 777)');
    expect(told()[3]?.[1]).toBe('a handler may be changed by others: use chmod go-w');
  });

  it('nobody is warned of what this user alone may change', async () => {
    warnings.length = 0;
    file = join(directory(), 'checkpoint.json');
    await start({ logger, deployments: { a: { handler: HANDLER } } });
    await engine.close();
    await start({ logger, deployments: { a: { handler: HANDLER } } });
    expect(warnings.filter(([, message]) => message.includes('others'))).toEqual([]);
  });
});

describe('a checkpoint that is not to be had', () => {
  it('keeps a model from being pinned', async () => {
    const folder = directory();
    file = join(folder, 'checkpoint.json');
    await start();
    rmSync(folder, { recursive: true });
    await expect(engine.models.load('times-1', { pin: true })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    expect(engine.models.get('times-1')).toMatchObject({ isPinned: false, replicas: [{ state: 'not loaded' }] });
  });

  it('is a refusal, and nothing is changed', async () => {
    const folder = directory({ 'checkpoint.json': '{ "format": "infermux checkpoint", "version": 1 }' });
    file = join(folder, 'checkpoint.json');
    await start();
    await expect(
      engine.deployments.create('a', { session: { extra: { bytes: new Uint8Array(1) } } }),
    ).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining('session cannot be written to a checkpoint'),
    });
    expect(engine.deployments.list()).toHaveLength(1);
  });

  it.each([
    ['{ "format": "infermux checkpoint", "version": 9 }', 'has version 9'],
    [
      '{ "format": "infermux checkpoint", "version": 1, "deployments": 7 }',
      'is damaged: deployments: expected a plain object, got 7',
    ],
    [
      '{ "format": "infermux checkpoint", "version": 1, "deployments": { "a": { "declared": null, "options": { "replica": 1 } } } }',
      'is damaged: deployments: "a": unknown key "replica"',
    ],
    [
      '{ "format": "infermux checkpoint", "version": 1, "endpoints": { "e": { "traffic": { "a": 2 } } } }',
      'is damaged: endpoints: "e".traffic',
    ],
    ['{ "format": "infermux checkpoint", "version": 1, "pins": [{ "target": "a" }] }', 'is damaged: pins: '],
    [
      '{ "format": "infermux checkpoint", "version": 1, "deployments": { "a/b": { "declared": null, "options": {} } } }',
      "is damaged: deployments: a deployment's name must be",
    ],
    ['{ "format": "infermux checkpoint", "version": 1, "models": { "a": 7 } }', 'is damaged: models: '],
    ['{ "format": "infermux checkpoint", "ver', 'is damaged: '],
  ])('%s keeps the engine from starting, and is left as it is', async (text, reason) => {
    file = join(directory({ 'checkpoint.json': text }), 'checkpoint.json');
    await expect(start()).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining(reason),
    });
    expect(readFileSync(file, 'utf8')).toBe(text);
  });
});

it('killed in the middle of a change, whatever the moment, the next one finds what was made or was being made', async () => {
  file = join(directory(), 'checkpoint.json');
  const child = fileURLToPath(new URL('../support/checkpoint-child.mjs', import.meta.url));
  for (let round = 1; round <= 6; round += 1) {
    const said: string[] = [];
    const killed = spawn(process.execPath, [child, models, file], { stdio: ['ignore', 'pipe', 'inherit'] });
    killed.stdout.on('data', (chunk) => said.push(...String(chunk).split('\n').filter(Boolean)));
    const changes = 7 * round;
    await until(() => said.includes(`begin ${changes}`));
    killed.kill('SIGKILL');
    await new Promise((resolve) => killed.on('close', resolve));
    const last = (word: string) =>
      Math.max(0, ...said.flatMap((line) => (line.startsWith(word) ? Number(line.split(' ')[1]) : [])));
    await start();
    const [endpoint] = engine.endpoints.list();
    const found = Math.round(1 / (endpoint?.shadow['times-2'] ?? 0));
    expect(found).toBeGreaterThanOrEqual(last('made'));
    expect(found).toBeLessThanOrEqual(last('begin'));
    await engine.close();
    // Each round begins anew.
    writeFileSync(file, '{ "format": "infermux checkpoint", "version": 1 }');
  }
});
