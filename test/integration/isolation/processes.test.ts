import { chmodSync, mkdirSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type InferenceEngine, type InfermuxError, type ProcessIsolation } from '../../../dist/index.js';
import { endlessRunModel, modelDirectory, scaleModel } from '../../support/onnx-models.js';
import { processesWith } from '../../support/processes.js';
import { until } from '../../support/until.js';

const models = modelDirectory({ double: scaleModel(2), triple: scaleModel(3), endless: endlessRunModel() });
const row = (value: number) => ({ x: { dims: [1, 4], data: new Float32Array(4).fill(value) } });
const vector = { x: { dims: [1], data: Float32Array.of(1) } };
let engine: InferenceEngine;
let marks = 0;
let mark = '';

async function start(isolation: Partial<ProcessIsolation> = {}, options: object = {}): Promise<void> {
  marks += 1;
  mark = `${process.pid}-processes-${marks}`;
  engine = await createEngine({
    ...{ models, replicas: 1, express: false },
    isolation: { kind: 'process', env: { PROCESSES: mark }, ...isolation },
    ...options,
  });
}

afterEach(async () => {
  await engine.close();
  if (process.platform === 'linux') expect(processesWith('PROCESSES', mark)).toEqual([]);
});

const first = async (answer: Promise<Record<string, { data: ArrayLike<unknown> }>>) => (await answer)['y']?.data[0];
const codeOf = (answer: Promise<unknown>) =>
  answer.then(
    () => 'answered',
    ({ code }: InfermuxError) => code,
  );
const pids = () => engine.status().replicas.flatMap(({ pid }) => (pid === undefined ? [] : [pid]));

describe.runIf(process.platform === 'linux')('a replica that is a process', () => {
  it('is replaced by a spare when it dies, and what it had goes on', async () => {
    await start({ spares: 1 });
    expect(await first(engine.run('double', row(1)))).toBe(2);
    await until(() => processesWith('PROCESSES', mark).length === 2);
    const before = processesWith('PROCESSES', mark);
    const [dead] = pids();
    const running = Array.from({ length: 50 }, (_, value) => first(engine.run('double', row(value))));
    process.kill(dead as number, 'SIGABRT');
    expect(await Promise.all(running)).toEqual(Array.from({ length: 50 }, (_, value) => 2 * value));
    await until(() => pids().length === 1 && pids()[0] !== dead);
    expect(before).toContain(pids()[0]);
    // The spare is replaced in turn.
    await until(() => processesWith('PROCESSES', mark).length === 2);
    expect(engine.status().deployments['default']?.lastFailure).toContain('its process was killed by SIGABRT');
  });

  it('is ended first when memory is used up, and tells its id', async () => {
    await start({ spares: 0 });
    const [pid] = pids();
    await until(() => readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8').trim() === '800');
    expect(processesWith('PROCESSES', mark)).toEqual([pid]);
  });

  it('is killed at once by destroy(), in the middle of a run that does not end', async () => {
    await start();
    const run = codeOf(engine.run('endless', vector));
    await until(() => engine.status().replicas.some(({ ongoing }) => ongoing > 0));
    const began = performance.now();
    await engine.destroy();
    expect(await run).toBe('ENGINE_CLOSED');
    // The grace is 20 s.
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  it('is killed when it overruns the grace of a rolling update', async () => {
    await start({}, { gracefulShutdownTimeoutMs: 200, maxModelsPerReplica: 2 });
    const run = codeOf(engine.run('endless', vector));
    await until(() => engine.status().replicas.some(({ ongoing }) => ongoing > 0));
    const [old] = pids();
    const goal = await engine.deployments.update('default', { maxModelsPerReplica: 1 });
    await goal.done;
    await until(() => !processesWith('PROCESSES', mark).includes(old as number));
    await engine.destroy();
    expect(['ENGINE_CLOSED', 'REPLICA_FAILED']).toContain(await run);
  });

  it('is killed for a cancelled run when others wait, with killCancelled', async () => {
    await start({ killCancelled: true });
    await first(engine.run('double', row(1)));
    const controller = new AbortController();
    const run = codeOf(engine.run('endless', vector, { signal: controller.signal }));
    await until(() => engine.status().replicas.some(({ ongoing }) => ongoing > 0));
    controller.abort();
    expect(await run).toBe('CANCELLED');
    expect(await first(engine.run('double', row(4)))).toBe(8);
    // Likewise for one that came too late.
    expect(await codeOf(engine.run('endless', vector, { timeoutMs: 100 }))).toBe('DEADLINE_EXCEEDED');
    expect(await first(engine.run('triple', row(4)))).toBe(12);
  });

  it('becomes a thread by a rolling update, and a process again, and loses no request', async () => {
    await start();
    let isOver = false;
    const wrong: unknown[] = [];
    const callers = Array.from({ length: 4 }, async (_, value) => {
      while (!isOver) {
        const answer = await first(engine.run('double', row(value))).catch((error: unknown) => error);
        if (answer !== 2 * value) wrong.push(answer);
      }
    });
    for (const isolation of ['thread', { kind: 'process', env: { PROCESSES: mark } }] as const) {
      await (await engine.deployments.update('default', { isolation })).done;
      await until(() => pids().length === (isolation === 'thread' ? 0 : 1));
      if (isolation === 'thread') await until(() => processesWith('PROCESSES', mark).length === 0);
    }
    isOver = true;
    await Promise.all(callers);
    expect(wrong).toEqual([]);
  });

  it('has no spare where there is no replica', async () => {
    await start({ spares: 2 });
    await until(() => processesWith('PROCESSES', mark).length === 3);
    await (await engine.deployments.update('default', { replicas: 0 })).done;
    await until(() => processesWith('PROCESSES', mark).length === 0);
    await (await engine.deployments.update('default', { replicas: 1 })).done;
    expect(await first(engine.run('double', row(1)))).toBe(2);
  });

  it('runs under the permission model of Node, with what onnxruntime needs', async () => {
    const [major = 0] = process.versions.node.split('.').map(Number);
    const permission = major >= 24 ? '--permission' : '--experimental-permission';
    const root = new URL('../../..', import.meta.url).pathname;
    const allowed = [`--allow-fs-read=${root}`, `--allow-fs-read=${models}`, '--allow-addons', '--allow-worker'];
    await start({ execArgv: [permission, ...allowed] }, { weights: 'private' });
    expect(await first(engine.run('double', row(1)))).toBe(2);
  });

  it.runIf(process.getuid?.() === 0)('runs as another user', async () => {
    // Models of a temporary folder are readable for their owner alone.
    const own = modelDirectory({});
    chmodSync(own, 0o755);
    await start({ uid: 65_534, gid: 65_534 }, { models: own, weights: 'private' });
    const [pid] = pids();
    expect(readFileSync(`/proc/${pid}/status`, 'utf8')).toMatch(/^Uid:\s+65534\s+65534/m);
    await engine.models.deploy('double', { 'model.onnx': scaleModel(2) });
    expect(await first(engine.run('double', row(1)))).toBe(2);
  });

  it('says why it cannot start, and goes on with pauses', async () => {
    const started = start({ execArgv: ['--no-such-option'] });
    await expect(started).rejects.toThrow(/its process exited with code 9/);
    await start({ spares: 0 });
    const missing = createEngine({
      models,
      replicas: 1,
      isolation: { kind: 'process', uid: 12_345_678, gid: -1 as never },
    });
    await expect(missing).rejects.toThrow('gid');
  });

  it('gets a model that is in memory, large inputs that are given away, and returns large outputs', async () => {
    await start({}, { models: modelDirectory({}) });
    await engine.models.deploy('wide', { 'model.onnx': scaleModel(2, 300_000) });
    const data = new Float32Array(300_000).fill(3);
    const given = { x: { dims: [1, 300_000], data } };
    const { y } = await engine.run('wide', given, { transfer: true });
    expect([y?.data.length, y?.data[0], y?.data[299_999], data.length]).toEqual([300_000, 6, 6, 0]);
    const { data: allocated } = engine.allocate('float32', [1, 300_000]);
    allocated.fill(4);
    const answer = await engine.run('wide', { x: { type: 'float32', dims: [1, 300_000], data: allocated } as never });
    expect(answer['y']?.data[299_999]).toBe(8);
  });
});

describe.runIf(process.platform === 'linux')('a handler in a process', () => {
  it('is refused what cannot be sent to it, and serves on', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'infermux-handler-'));
    mkdirSync(folder, { recursive: true });
    const handler = new URL('../../support/handler.mjs', import.meta.url);
    const app = { handler, isolation: { kind: 'process', env: { PROCESSES: 'app' } } } as const;
    await start({}, { deployments: { app } });
    const refused = engine.run<unknown>('app', { memory: new SharedArrayBuffer(8) } as never);
    await expect(refused).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('process'),
    });
    const view = { view: new Uint8Array(new SharedArrayBuffer(8)) };
    expect(await engine.run<unknown>('app', { do: 'echo', value: view } as never)).toBeDefined();
    expect(engine.status().replicas.map(({ restarts }) => restarts)).toEqual([0, 0]);
  });
});
