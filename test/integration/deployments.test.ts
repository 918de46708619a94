import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { systemClock } from '../../dist/common/clock.js';
import { startEngine } from '../../dist/engine/create-engine.js';
import type { EngineOptions, InferenceEngine, InfermuxError } from '../../dist/index.js';
import { modelDirectory, scaleModel, slowRunModel } from '../support/onnx-models.js';
import { SteadyLoad } from '../support/steady-load.js';
import { until } from '../support/until.js';

const ids = ['times-1', 'times-2', 'times-3'];
const directory = modelDirectory({
  ...Object.fromEntries(ids.map((id, index) => [id, scaleModel(index + 1)])),
  slow: slowRunModel(40),
});
process.env['CRASH_MARKERS'] = mkdtempSync(join(tmpdir(), 'infermux-deployments-'));
const crashingWorker = new URL('../support/crashing-worker.mjs', import.meta.url);

let engine: InferenceEngine;
let logged: string[];

async function start(options: EngineOptions = {}, worker?: URL): Promise<InferenceEngine> {
  logged = [];
  const log = (fields: object, message: string) => logged.push(`${message} ${JSON.stringify(fields)}`);
  const logger = { debug: () => undefined, info: log, warn: log, error: log } as never;
  const environment = { clock: systemClock, ...(worker && { worker }) };
  engine = await startEngine({ models: directory, replicas: 1, logger, ...options }, environment);
  return engine;
}

const row = (value = 1, marker = 0) => ({ x: { dims: [1, 4], data: Float32Array.of(value, marker, 0, 0) } });
const single = { x: { dims: [1], data: Float32Array.of(3) } };
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'answered',
    ({ code }: InfermuxError) => code,
  );
const replicasOf = (name: string) => engine.status().replicas.filter(({ deployment }) => deployment === name);
const idsOf = (name: string) => replicasOf(name).map(({ id }) => id);

async function under<T>(targets: readonly string[], work: (load: SteadyLoad) => Promise<T>): Promise<T> {
  const load = new SteadyLoad(() => engine, targets);
  await until(() => load.answered > 50);
  const result = await work(load);
  const before = load.answered;
  await until(() => load.answered > before + 50);
  expect(await load.stop()).toEqual([]);
  return result;
}

afterEach(() => engine?.destroy());

describe('under steady load, with no request lost', () => {
  it('a deployment scales from 1 to 4 and back', async () => {
    await start();
    await under(ids, async () => {
      for (const replicas of [4, 1]) {
        const goal = await engine.deployments.update('default', { replicas });
        expect(await goal.done).toBe('reached');
        expect(engine.deployments.get('default')).toMatchObject({ state: 'healthy', ready: true });
        expect(replicasOf('default').map(({ state }) => state)).toEqual(Array(replicas).fill('running'));
      }
    });
  });

  it('it follows the requests by itself', async () => {
    const autoscaling = {
      ...{ minReplicas: 1, maxReplicas: 4, targetOngoingRequests: 2 },
      ...{ upscaleDelayMs: 0, downscaleDelayMs: 0, lookBackMs: 1 },
    };
    await start({ autoscaling });
    await under(ids, () => until(() => engine.deployments.get('default').runningReplicas === 4));
    await until(() => engine.status().replicas.length === 1);
    expect(logged.filter((line) => line.startsWith('more replicas than this machine can carry'))).not.toEqual([]);
  });

  it('another configuration is rolled out, a new replica before an old one goes', async () => {
    await start({ replicas: 3 });
    const before = idsOf('default');
    let fewest = 3;
    let most = 3;
    const look = setInterval(() => {
      fewest = Math.min(fewest, engine.deployments.get('default').runningReplicas);
      most = Math.max(most, replicasOf('default').length);
    }, 1);
    await under(ids, async () => {
      const goal = await engine.deployments.update('default', { session: { graphOptimizationLevel: 'basic' } });
      expect(engine.deployments.get('default').state).toBe('updating');
      expect(await goal.done).toBe('reached');
    });
    clearInterval(look);
    expect(idsOf('default')).not.toEqual(before);
    expect({ fewest, most }).toEqual({ fewest: 3, most: 4 });
  });

  it('limits, batching and time-outs are changed without another replica', async () => {
    await start({ replicas: 2 });
    await under(ids, async () => {
      const goal = await engine.deployments.update('default', {
        ...{ batching: false, maxOngoingRequests: 1, maxQueuedRequests: 100, gracefulShutdownTimeoutMs: 5_000 },
      });
      expect(await goal.done).toBe('reached');
      const results = await Promise.all(
        Array.from({ length: 40 }, () => engine.infer({ target: 'times-1', feeds: row() })),
      );
      expect(Math.max(...results.map(({ batchSize }) => batchSize))).toBe(1);
    });
    expect(engine.status().replicas.map(({ id, restarts }) => [id, restarts])).toEqual([
      ['default-0', 0],
      ['default-1', 0],
    ]);
  });

  it('another deployment is deleted with its work in flight, and answers all of it', async () => {
    await start();
    await (await engine.deployments.create('other', { replicas: 2 })).done;
    await under(ids, async () => {
      const inFlight = Array.from({ length: 30 }, () => codeOf(engine.run('other/slow', single)));
      await until(() => engine.deployments.get('other').ongoing > 0);
      const deleted = await engine.deployments.delete('other');
      expect(await codeOf(engine.run('other/slow', single))).toBe('FAILED_PRECONDITION');
      expect(engine.deployments.get('other').state).toBe('deleting');
      expect(new Set(await Promise.all(inFlight))).toEqual(new Set(['answered']));
      expect(await deleted.done).toBe('reached');
      expect(engine.deployments.list().map(({ name }) => name)).toEqual(['default']);
      expect(engine.status().replicas).toHaveLength(1);
    });
  });

  it('replicas crash one after the other', async () => {
    await start({ replicas: 3 }, crashingWorker);
    await under(ids, async () => {
      for (let crash = 1; crash <= 6; crash += 1) {
        const answer = await engine.run('times-2', row(-1, 100 + crash));
        expect(answer['y']?.data[0]).toBe(-2);
      }
    });
    await until(() => engine.deployments.get('default').runningReplicas === 3);
    expect(engine.deployments.get('default')).toMatchObject({ state: 'healthy', ready: true });
    expect(engine.deployments.get('default').lastFailure).toContain('thrown in the worker');
  });
});

describe('a goal', () => {
  it('is the same where nothing is changed, and another takes its place where something is', async () => {
    await start();
    const created = await engine.deployments.create('other', { replicas: 1, labels: { zone: 'a' } });
    const again = await engine.deployments.create('other', { replicas: 1, labels: [{ zone: 'a' }] });
    expect(again.id).toBe(created.id);
    const updated = await engine.deployments.update('other', { replicas: 2 });
    expect(await created.done).toBe(created.status);
    expect(await updated.done).toBe('reached');
    expect((await engine.deployments.create('other', { replicas: 2, labels: { zone: 'a' } })).status).toBe('reached');
    const first = await engine.deployments.update('other', { maxModelsPerReplica: 1 });
    const second = await engine.deployments.update('other', { maxModelsPerReplica: 2 });
    expect([await first.done, first.status, await second.done]).toEqual(['superseded', 'superseded', 'reached']);
    expect(replicasOf('other').map(({ labels }) => labels)).toEqual([{ zone: 'a' }, { zone: 'a' }]);
  });

  it('that was missed is tried for again when the same is asked for', async () => {
    await start();
    const handler = join(mkdtempSync(join(tmpdir(), 'infermux-deployments-')), 'late.mjs');
    const missed = await engine.deployments.create('late', { handler });
    await expect(missed.done).rejects.toMatchObject({ code: 'REPLICA_FAILED' });
    expect({ ...missed }.status).toBe('failed');
    writeFileSync(handler, 'export const handle = () => "there";');
    const again = await engine.deployments.create('late', { handler });
    expect([again.id === missed.id, await again.done]).toEqual([false, 'reached']);
    expect(engine.deployments.get('late').state).toBe('healthy');
  });

  it('is out of reach for a handler that is not there; what was there goes on', async () => {
    await start();
    const goal = await engine.deployments.create('broken', { handler: '/nowhere/handler.mjs' });
    const message = expect.stringMatching(/deployment broken: 3 starts failed.*could not be imported/);
    await expect(goal.done).rejects.toMatchObject({ code: 'REPLICA_FAILED', message });
    expect(engine.ready).toBe(false);
    expect(engine.deployments.get('broken')).toMatchObject({ state: 'unhealthy', ready: false });
    expect(await codeOf(engine.run<number>('broken', 1))).toBe('REPLICA_FAILED');
    expect(await codeOf(engine.run('times-1', row()))).toBe('answered');
    await (await engine.deployments.delete('broken')).done;
    expect(engine.ready).toBe(true);
  });
});

describe('refusals', () => {
  it('name what there is, and what to do', async () => {
    const handler = new URL('../support/handler.mjs', import.meta.url);
    await start({ deployments: { handled: { handler } } });
    const refusal = (call: Promise<unknown>) => call.then(String, ({ code, message }) => `${code}: ${message}`);
    const { deployments } = engine;
    const expected: [Promise<unknown>, string][] = [
      [deployments.update('none', {}), 'FAILED_PRECONDITION: no deployment "none"; there are: "default", "handled"'],
      [deployments.delete('none'), 'FAILED_PRECONDITION: no deployment "none"; there are: "default", "handled"'],
      [engine.run('times-1', row(), { deployment: 'none' }), 'FAILED_PRECONDITION: no deployment "none"'],
      [engine.run('none/times-1', row()), 'FAILED_PRECONDITION: no deployment "none"'],
      [engine.run('default/none', row()), 'MODEL_NOT_FOUND: no model "none"'],
      [engine.models.load('times-1', { deployment: 'none' }), 'FAILED_PRECONDITION: no deployment "none"'],
      [deployments.create('default', { replicas: 7 }), 'exists, with other replicas: call update'],
      [deployments.create('a b'), "INVALID_ARGUMENT: a deployment's name must be up to 64 letters"],
      [deployments.create('a', { replica: 1 } as never), 'INVALID_ARGUMENT: deployment "a": unknown key "replica"'],
      [deployments.create('a', null as never), 'INVALID_ARGUMENT: deployment "a" must be a plain object, got null'],
      [deployments.update('default', 7 as never), 'INVALID_ARGUMENT: the changes must be a plain object, got 7'],
      [deployments.update('default', { handler: 'a.mjs' }), 'a handler cannot be added or taken away'],
      [
        deployments.create('a', { handler: 'a.mjs', userConfig: new Map() }),
        'userConfig must be what JSON can carry, and comes out of it as {}',
      ],
      [
        deployments.create('a', { handler: 'a.mjs', userConfig: () => 1 }),
        'deployment "a".userConfig must be plain data',
      ],
      [deployments.create('_a'), 'the first a letter or a digit, got "_a"'],
      [deployments.update('handled', { handler: undefined }), 'a handler cannot be added or taken away'],
      [
        engine.run('handeld', row()),
        'no model "handeld"; known models: "slow", "times-1", "times-2", "times-3"; deployments with a handler: "handled"',
      ],
      [deployments.delete('default', { force: 1 } as never), 'INVALID_ARGUMENT: delete.force must be true or false'],
    ];
    const refusals = await Promise.all(expected.map(([call]) => refusal(call)));
    for (const [index, [, message]] of expected.entries()) expect(refusals[index]).toContain(message);
    expect(() => deployments.get('none')).toThrow('no deployment "none"');
  });

  it('a deployment without replicas refuses, and says why', async () => {
    await start({ replicas: 0 });
    await expect(engine.run('times-1', row())).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: expect.stringContaining('has no replicas (replicas: 0)'),
    });
    expect(engine.ready).toBe(true);
    await (await engine.deployments.update('default', { replicas: 1 })).done;
    expect(await codeOf(engine.run('times-1', row()))).toBe('answered');
  });
});

it('a deployment without replicas starts one for the first request, and none is left when nothing is asked', async () => {
  const scale = { upscaleDelayMs: 0, downscaleDelayMs: 0, lookBackMs: 1 };
  await start({ replicas: 0, autoscaling: { minReplicas: 0, maxReplicas: 2, ...scale } });
  for (let round = 0; round < 2; round += 1) {
    expect(engine.status().replicas).toEqual([]);
    expect(engine.ready).toBe(true);
    expect(await codeOf(engine.run('times-1', row()))).toBe('answered');
    await until(() => engine.status().replicas.length === 0);
  }
});

it('the last replica stays until what was accepted is answered', async () => {
  await start({ deployments: { other: {} } });
  const inFlight = Array.from({ length: 20 }, () => codeOf(engine.run('other/slow', single)));
  const goal = await engine.deployments.update('other', { replicas: 0 });
  expect(await codeOf(engine.run('other/slow', single))).toBe('FAILED_PRECONDITION');
  expect(await Promise.all(inFlight)).toEqual(Array(20).fill('answered'));
  expect(await goal.done).toBe('reached');
  expect(replicasOf('other')).toEqual([]);
});

it('a deployment that could not start, and has no replicas for want of requests, tries again for the next one', async () => {
  const handler = join(mkdtempSync(join(tmpdir(), 'infermux-deployments-')), 'late.mjs');
  const scale = { upscaleDelayMs: 0, downscaleDelayMs: 0, lookBackMs: 1 };
  await start({ deployments: { late: { handler, autoscaling: { minReplicas: 0, maxReplicas: 1, ...scale } } } });
  expect(await codeOf(engine.run<string>('late', 1))).toBe('REPLICA_FAILED');
  await until(() => engine.deployments.get('late').targetReplicas === 0);
  expect(engine.ready).toBe(false);
  writeFileSync(handler, 'export const handle = () => "there";');
  expect(await engine.run<string>('late', 1)).toBe('there');
  expect(engine.ready).toBe(true);
});

it('a deployment with no place to wait starts its first replica all the same', async () => {
  await start({ deployments: { tight: { maxQueuedRequests: 0, autoscaling: { minReplicas: 0, maxReplicas: 1 } } } });
  expect(await codeOf(engine.run('tight/times-1', row()))).toBe('QUEUE_FULL');
  await until(() => engine.deployments.get('tight').runningReplicas === 1);
  expect(await codeOf(engine.run('tight/times-1', row()))).toBe('answered');
});

it('one of the same name begins when the one before it is gone, however they are asked for', async () => {
  await start({ deployments: { other: {} } });
  const inFlight = codeOf(engine.run('other/slow', single));
  const deleted = engine.deployments.delete('other');
  const created = engine.deployments.create('other', { replicas: 2 });
  expect(await inFlight).toBe('answered');
  expect(await (await created).done).toBe('reached');
  expect((await deleted).status).toBe('reached');
  expect(engine.deployments.list().map(({ name }) => name)).toEqual(['default', 'other']);
  expect(idsOf('other')).toEqual(['other-0', 'other-1']);
});

it("what the caller does with its options later is nobody else's affair", async () => {
  await start();
  const labels = { zone: 'a' };
  const rollingUpdate = { fraction: 0.5 };
  await (await engine.deployments.create('other', { labels, rollingUpdate })).done;
  labels.zone = 'b';
  rollingUpdate.fraction = 7;
  const goal = await engine.deployments.update('other', { maxQueuedRequests: 9 });
  expect(goal.status).toBe('reached');
  expect(engine.deployments.get('other').options).toMatchObject({
    labels: [{ zone: 'a' }],
    rollingUpdate: { fraction: 0.5 },
    maxQueuedRequests: 9,
  });
  expect(idsOf('other')).toEqual(['other-0']);
});

it('an option that is undefined goes back to its default', async () => {
  await start();
  await (await engine.deployments.create('other', { replicas: 2, maxQueuedRequests: 9 })).done;
  await (await engine.deployments.update('other', { replicas: undefined, maxQueuedRequests: undefined })).done;
  expect(engine.deployments.get('other').options).toMatchObject({ replicas: 1, maxQueuedRequests: 4_096 });
});

it('a model is loaded in the deployment that has replicas, where none is named', async () => {
  await start({ replicas: 0, deployments: { other: { replicas: 2 } } });
  const { replicas } = await engine.models.load('times-1', { replicas: 'all' });
  expect(replicas.map(({ replica, state }) => [replica, state])).toEqual([
    ['other-0', 'loaded'],
    ['other-1', 'loaded'],
  ]);
  expect((await engine.models.retrieve('times-2')).replicas.some(({ state }) => state === 'loaded')).toBe(true);
  const empty = engine.models.load('times-1', { deployment: 'default' });
  await expect(empty).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    message: expect.stringContaining('is to have no replica at present'),
  });
});

it('a deployment is deleted while its handler is in calls of onnxruntime-node of its own, and the process lives', () => {
  const script = `
    import { createEngine } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
    const engine = await createEngine({ replicas: 0 });
    for (let round = 0; round < 5; round += 1) {
      await engine.deployments.create('eager', { handler: ${JSON.stringify(new URL('../support/eager-handler.mjs', import.meta.url).href)} });
      await new Promise((resolve) => setTimeout(resolve, 250 + 50 * round));
      await (await engine.deployments.delete('eager', { force: true })).done;
    }
    await engine.close();
    console.log('alive');`;
  const env = { ...process.env, EAGER_MODEL: join(directory, 'slow.onnx') };
  const args = ['--input-type=module', '--eval', script];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', env });
  expect({ status, stdout }).toEqual({ status: 0, stdout: 'alive\n' });
});

it('a process waits for a change to be decided, though nothing else keeps it up', () => {
  const script = `
    import { createEngine } from ${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)};
    const engine = await createEngine({ models: ${JSON.stringify(directory)}, replicas: 1 });
    const goal = await engine.deployments.create('h', { handler: '/nowhere/handler.mjs' });
    console.log(await goal.done.catch(({ code }) => code), goal.status);
    console.log(await (await engine.deployments.create('other')).done);`;
  const args = ['--input-type=module', '--eval', script];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect({ status, stdout }).toEqual({ status: 0, stdout: 'REPLICA_FAILED failed\nreached\n' });
});

it('force rejects what was accepted at once', async () => {
  await start();
  await (await engine.deployments.create('other')).done;
  const inFlight = Array.from({ length: 10 }, () => codeOf(engine.run('other/slow', single)));
  const deleted = await engine.deployments.delete('other', { force: true });
  expect(await Promise.all(inFlight)).toEqual(Array(10).fill('FAILED_PRECONDITION'));
  expect(await deleted.done).toBe('reached');
  // The name is free again.
  await (await engine.deployments.create('other')).done;
  expect(await codeOf(engine.run('other/times-1', row()))).toBe('answered');
});

it('a replica that does not finish in time is given up, and its requests go to another', async () => {
  await start({ replicas: 2, gracefulShutdownTimeoutMs: 20 });
  const inFlight = Array.from({ length: 4 }, () => codeOf(engine.run('slow', single)));
  await until(() => engine.status().replicas.every(({ ongoing }) => ongoing > 0));
  const goal = await engine.deployments.update('default', { replicas: 1 });
  expect(await goal.done).toBe('reached');
  expect(await Promise.all(inFlight)).toEqual(Array(4).fill('answered'));
});

it('a rolling update gives up whatever does not end in time, again and again, and no request is lost', async () => {
  const handler = new URL('../support/handler.mjs', import.meta.url);
  await start({ replicas: 0, deployments: { naps: { handler, replicas: 3, gracefulShutdownTimeoutMs: 5 } } });
  for (let update = 1; update <= 3; update += 1) {
    const calls = Array.from({ length: 9 }, () => engine.run<string>('naps', { do: 'nap', ms: 60 }));
    await until(() => engine.status().replicas.every(({ ongoing }) => ongoing > 0));
    const goal = await engine.deployments.update('naps', { labels: { update: String(update) } });
    expect(await Promise.all(calls)).toEqual(Array(9).fill('rested'));
    expect(await goal.done).toBe('reached');
  }
});

it('each deployment has a queue, limits and metrics of its own', async () => {
  await start({ deployments: { tight: { maxQueuedRequests: 1 } } });
  const calls = Array.from({ length: 6 }, () => codeOf(engine.run('tight/slow', single)));
  const answers = await Promise.all(calls);
  expect(answers).toContain('QUEUE_FULL');
  const { deployment } = await engine.infer({ target: 'times-1', feeds: row(), deployment: 'tight' });
  expect(deployment).toBe('tight');
  const text = await engine.metrics.metrics();
  const refused = answers.filter((answer) => answer !== 'answered').length;
  expect(text).toContain(`infermux_deployment_errors_total{deployment="tight"} ${refused}`);
  expect(text).toContain('infermux_deployment_running_replicas{deployment="tight"} 1');
  expect(text).toContain('infermux_queued_requests{deployment="default"} 0');
  expect(text).not.toContain('infermux_deployment_errors_total{deployment="default"}');
});

it('a pin goes with its deployment', async () => {
  await start({ deployments: { other: {} } });
  await engine.models.load('times-3', { deployment: 'other', pin: true });
  expect(engine.models.get('times-3').isPinned).toBe(true);
  await (await engine.deployments.delete('other')).done;
  expect(engine.models.get('times-3').isPinned).toBe(false);
});

it('a pin moves with the replicas, and keeps its number', async () => {
  await start({ replicas: 2 });
  await engine.models.load('times-3', { replicas: 1, pin: true });
  const holders = () => engine.models.get('times-3').replicas.filter(({ state }) => state === 'loaded');
  expect(holders()).toHaveLength(1);
  await (await engine.deployments.update('default', { maxModelsPerReplica: 2 })).done;
  await until(() => holders().length === 1);
  expect(idsOf('default')).toContain(holders()[0]?.replica);
});

it('deployments declared with different providers stand side by side, each with its devices', async () => {
  // There is no such provider here: sessions are made of it only when a model is loaded.
  const session = { executionProviders: ['nowhere', 'cpu'] };
  await start({ deployments: { gpu: { session, devices: [0, 1], replicas: 4, labels: { kind: 'gpu' } } } });
  const labels = replicasOf('gpu').map((replica) => replica.labels);
  expect(labels.map(({ device }) => device).sort()).toEqual(['0', '0', '1', '1']);
  expect(labels.every(({ kind }) => kind === 'gpu')).toBe(true);
  expect(await codeOf(engine.run('gpu/times-1', row()))).toBe('MODEL_LOAD_FAILED');
  expect(await codeOf(engine.run('times-1', row()))).toBe('answered');
});

it('a deployment that changes while the engine closes does not keep it', async () => {
  await start({ replicas: 1 });
  const goal = await engine.deployments.create('other', { replicas: 2 });
  const closed = engine.close();
  expect(await codeOf(engine.deployments.create('third'))).toBe('ENGINE_CLOSED');
  await closed;
  expect(['failed', 'reached']).toContain(goal.status);
  expect(engine.ready).toBe(false);
});
