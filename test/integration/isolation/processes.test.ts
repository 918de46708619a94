import { chmodSync, readFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type InferenceEngine, type InfermuxError, type ProcessIsolation } from '../../../dist/index.js';
import { endlessLoadModel, endlessRunModel, modelDirectory, scaleModel } from '../../support/onnx-models.js';
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
    await expect(started).rejects.toThrow(/its process exited with code 9: Node refused its options/);
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
  const handler = new URL('../../support/hostile-handler.mjs', import.meta.url);
  const startApp = (isolation: Partial<ProcessIsolation> = {}, options: object = {}) => {
    const own = { kind: 'process', env: { PROCESSES: `${process.pid}-processes-${marks + 1}` }, ...isolation } as const;
    return start({ spares: 0 }, { replicas: 0, deployments: { app: { handler, isolation: own, ...options } } });
  };
  const ask = (request: object) => engine.run<unknown>('app', request);

  it.each(['garbage', 'odd messages', 'claims', 'tiny arrays', 'close', 'orphan'])(
    'that does harm to its sockets (%s) ends itself alone',
    async (harm) => {
      await startApp();
      // The answer may come before the end.
      expect(['REPLICA_FAILED', 'answered']).toContain(await codeOf(ask({ harm })));
      await until(() => engine.status().replicas.some(({ restarts }) => restarts > 0));
      await until(() => engine.status().replicas.every(({ state }) => state === 'running'));
      expect(await ask({ echo: 'well' })).toBe('well');
      expect(engine.status().replicas.map(({ ongoing }) => ongoing)).toEqual([0]);
    },
  );

  it('may take its time while it gives a sign of life: others are not blamed for one that never ends', async () => {
    await startApp({ runTimeoutMs: 300 });
    // It waits for longer than any run may take.
    const patient = ask({ echo: 'patient', waitMs: 900 });
    expect(await patient).toBe('patient');
    const innocent = Array.from({ length: 3 }, (_, number) => ask({ echo: number, waitMs: 100 }));
    const endless = codeOf(ask({ harm: 'spin' }));
    expect(await Promise.all(innocent)).toEqual([0, 1, 2]);
    expect(['DEADLINE_EXCEEDED', 'REPLICA_FAILED']).toContain(await endless);
    const [harmful] = engine.status().deployments['app']?.harmful ?? [];
    expect(harmful).toMatchObject({ requests: 1, isBarred: false });
    expect(await ask({ echo: 'well' })).toBe('well');
  });

  it('fails the request, and no other, whose answer cannot be sent', async () => {
    await startApp();
    const [, ...others] = await Promise.all([
      expect(ask({ harm: 'answers memory' })).rejects.toMatchObject({ code: 'INFERENCE_FAILED' }),
      ask({ echo: 1, waitMs: 20 }),
      ask({ echo: 2 }),
    ]);
    expect(others).toEqual([1, 2]);
    await expect(ask({ harm: 'answers code' })).rejects.toMatchObject({ code: 'INFERENCE_FAILED' });
    const items: unknown[] = [];
    const take = async () => {
      for await (const item of engine.stream('app', { harm: 'streams memory' })) items.push(item);
    };
    await expect(take()).rejects.toMatchObject({ code: 'INFERENCE_FAILED' });
    expect(items).toEqual([1]);
    expect(engine.status().replicas.map(({ restarts }) => restarts)).toEqual([0]);
  });

  it('knows a model after a request for it that could not be sent', async () => {
    await startApp();
    for (const odd of [new SharedArrayBuffer(8), new Blob(['x'])]) {
      expect(await codeOf(engine.run<unknown>('app/double', { odd }))).toBe('INVALID_ARGUMENT');
      expect(await engine.run<unknown>('app/double', { echo: 5 })).toBe(5);
    }
    expect(engine.status().replicas.map(({ ongoing, restarts }) => [ongoing, restarts])).toEqual([[0, 0]]);
  });

  it('that goes on after an error is not said to have died of it', async () => {
    await startApp();
    expect(await ask({ harm: 'survives', echo: 1, waitMs: 20 })).toBe(1);
    process.kill(pids()[0] as number, 'SIGSEGV');
    await until(() => engine.status().replicas.some(({ restarts }) => restarts > 0));
    expect(engine.status().deployments['app']?.lastFailure).toContain('killed by SIGSEGV');
  });

  it('that is stopped holds up destroy() no more than one in a run', async () => {
    await startApp();
    process.kill(pids()[0] as number, 'SIGSTOP');
    const began = performance.now();
    await engine.destroy();
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  it('is refused what cannot be sent to it, and serves on', async () => {
    await startApp();
    await expect(ask({ memory: new SharedArrayBuffer(8) })).rejects.toMatchObject({
      ...{ code: 'INVALID_ARGUMENT', message: expect.stringContaining('process') },
    });
    const echo = new Uint8Array(new SharedArrayBuffer(8)).fill(3);
    expect(await ask({ echo })).toEqual(new Uint8Array(8).fill(3));
    expect(engine.status().replicas.map(({ restarts }) => restarts)).toEqual([0]);
  });
});

describe.runIf(process.platform === 'linux')('a run', () => {
  it('that was answered in time is not killed because the caller was busy when its answer came', async () => {
    await start({ runTimeoutMs: 200 });
    await first(engine.run('double', row(1)));
    for (let round = 0; round < 3; round += 1) {
      const answer = first(engine.run('double', row(round)));
      for (const end = performance.now() + 400; performance.now() < end; );
      expect(await answer).toBe(2 * round);
    }
    expect(engine.status().replicas.map(({ restarts }) => restarts)).toEqual([0]);
  });

  it('that takes too long is barred, also when its caller has not waited for that', async () => {
    await start({ runTimeoutMs: 300 });
    await first(engine.run('double', row(1)));
    expect(await codeOf(engine.run('endless', vector, { timeoutMs: 2_000 }))).toBe('DEADLINE_EXCEEDED');
    const harmful = () => engine.status().deployments['default']?.harmful[0];
    expect(harmful()).toMatchObject({ model: 'endless', requests: 1, isBarred: false });
    await until(() => engine.status().replicas.every(({ state }) => state === 'running'));
    await engine.models.load('endless');
    const other = { x: { dims: [1], data: Float32Array.of(2) } };
    expect(await codeOf(engine.run('endless', other, { timeoutMs: 100 }))).toBe('DEADLINE_EXCEEDED');
    await until(() => harmful()?.isBarred === true);
    expect(harmful()).toMatchObject({ model: 'endless', requests: 2 });
  });

  it('that is cancelled when others wait already gives way with killCancelled', async () => {
    await start({ killCancelled: true });
    await first(engine.run('double', row(1)));
    const controller = new AbortController();
    const run = codeOf(engine.run('endless', vector, { signal: controller.signal }));
    await until(() => engine.models.get('endless').replicas.some(({ state }) => state === 'loaded'));
    const waiting = [1, 2, 3].map((value) => first(engine.run('double', row(value))));
    controller.abort();
    expect(await run).toBe('CANCELLED');
    expect(await Promise.all(waiting)).toEqual([2, 4, 6]);
    // It was not the request's fault.
    expect(engine.status().deployments['default']?.harmful).toEqual([]);
  });

  it('and a load are killed at once by destroy()', async () => {
    await start({}, { models: modelDirectory({ 'endless-load': endlessLoadModel() }) });
    const load = codeOf(engine.models.load('endless-load'));
    await until(() => engine.status().replicas.some(({ models: own }) => own.length > 0));
    const began = performance.now();
    await engine.destroy();
    expect(performance.now() - began).toBeLessThan(5_000);
    expect(await load).not.toBe('answered');
  });
});

it.runIf(process.platform === 'linux')(
  'a spare that dies is replaced, and one that is dying is not taken',
  async () => {
    await start({ spares: 1 });
    await until(() => processesWith('PROCESSES', mark).length === 2);
    const own = pids();
    const spare = processesWith('PROCESSES', mark).find((pid) => !own.includes(pid));
    process.kill(spare as number, 'SIGKILL');
    process.kill(own[0] as number, 'SIGKILL');
    expect(await first(engine.run('double', row(2)))).toBe(4);
    await until(() => processesWith('PROCESSES', mark).length === 2);
    const again = processesWith('PROCESSES', mark).find((pid) => !pids().includes(pid));
    process.kill(again as number, 'SIGKILL');
    await until(() => processesWith('PROCESSES', mark).length === 1);
    await until(() => processesWith('PROCESSES', mark).length === 2);
  },
  60_000,
);
