import { type Logger, pino } from 'pino';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  createEngine,
  type DeploymentOptions,
  type InferenceEngine,
  type InfermuxError,
  type RunOptions,
} from '../../dist/index.js';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';
import { until } from '../support/until.js';

const models = modelDirectory({
  ...Object.fromEntries([1, 2, 3].map((factor) => [`times-${factor}`, scaleModel(factor)])),
});
const HANDLER = new URL('../support/handler.mjs', import.meta.url);
const OWN_MODELS = new URL('../support/own-models-handler.mjs', import.meta.url);

let engine: InferenceEngine;

async function start(options: DeploymentOptions = {}, logger?: Logger): Promise<void> {
  const app: DeploymentOptions = { handler: HANDLER, ...options };
  engine = await createEngine({ models, replicas: 0, deployments: { app }, ...(logger && { logger }) });
}

const ask = <Answer = unknown>(request: unknown, target = 'app', options: RunOptions = {}) =>
  engine.run<unknown>(target, request, options) as Promise<Answer>;
const outcome = (promise: Promise<unknown>) =>
  promise.then(
    (answer) => answer,
    ({ code, message }: InfermuxError) => `${code}: ${message}`,
  );
const x = Float32Array.of(5, 0, 0, 0);

afterEach(() => engine?.destroy());

describe('a request for a handler', () => {
  it.each<[string, unknown]>([
    ['nothing', undefined],
    ['null', null],
    ['a number', Number.NaN],
    ['a big integer', 7n],
    ['bytes', Uint8Array.of(1, 2, 3)],
    ['a map', new Map([['a', new Date(0)]])],
    ['an error', new RangeError('too far')],
    ['nested data', { a: [{ b: new Set([1]) }], text: 'ä' }],
  ])('may be %s, and comes back as it was', async (_, value) => {
    await start();
    expect(await ask({ do: 'echo', value })).toEqual(value);
    expect(await ask(value)).toMatchObject({ requests: 2 });
  });

  it('is a copy, as is the answer', async () => {
    await start();
    const value = Uint8Array.of(1);
    const answer = ask<Uint8Array>({ do: 'echo', value });
    value[0] = 9;
    expect((await answer)[0]).toBe(1);
  });

  it('is refused when it cannot be cloned, and so is what is for models alone', async () => {
    await start();
    expect(await outcome(ask(() => undefined))).toContain('INVALID_ARGUMENT: the request cannot be cloned');
    const withOutputs = ask(1, 'app', { outputs: ['y'] });
    expect(await outcome(withOutputs)).toContain('INVALID_ARGUMENT: outputs and transfer are for models');
  });

  it('tells how it fared', async () => {
    await start();
    const result = await engine.infer<number>({ target: 'app/times-2', feeds: { do: 'run', model: 'times-2', x } });
    expect(result).toMatchObject({ outputs: 10, model: 'times-2', deployment: 'app', replica: 'app-0', batchSize: 1 });
  });

  it('fails alone', async () => {
    await start();
    const answers = await Promise.all(
      [
        { do: 'throw' },
        { do: 'function' },
        { do: 'bad feeds' },
        { do: 'run', model: 'none', x },
        { do: 'echo', value: 1 },
      ].map((request) => outcome(ask(request))),
    );
    expect(answers).toEqual([
      'INFERENCE_FAILED: the handler failed: as asked',
      expect.stringContaining('INFERENCE_FAILED: the handler returned what cannot be cloned: () => undefined'),
      expect.stringContaining('INVALID_ARGUMENT: model "times-1": input "x" is missing'),
      expect.stringContaining('MODEL_NOT_FOUND: no model "none"'),
      1,
    ]);
  });

  it('may ask for more than it waits for: what fails of that ends no thread', async () => {
    await start();
    for (let round = 0; round < 5; round += 1) expect(await ask({ do: 'leave' })).toBe('left');
    expect(await ask({ do: 'echo', value: 1 })).toBe(1);
    expect(engine.status().replicas).toMatchObject([{ restarts: 0 }]);
  });

  it('is handled when those before it in its replica are', async () => {
    await start();
    for (let round = 0; round < 60; round += 1) await ask({ do: 'echo', value: round });
    const answers = await Promise.all(Array.from({ length: 50 }, () => ask({ do: 'together' })));
    expect(new Set(answers)).toEqual(new Set([1]));
  });

  it('may name any number of models, and nothing is left of those that are not there', async () => {
    await start({ handler: OWN_MODELS, maxModelsPerReplica: 2 });
    for (let round = 0; round < 300; round += 1) await ask(undefined, `app/tenant-${round}`);
    const text = await engine.metrics.metrics();
    expect(text).toContain('infermux_router_requests_total{model="(handler)"} 300');
    expect(text).not.toContain('model="tenant-1"');
    expect(engine.status().replicas[0]?.models).toHaveLength(2);
  });

  it('tells where it failed', async () => {
    await start();
    const failed = ask({ do: 'throw' }).catch(({ cause }: InfermuxError) => (cause as Error).stack);
    expect(await failed).toMatch(/^Error: as asked\n\s+at .*handle.*handler\.mjs:\d+/);
  });

  it('may write to the log of the engine', async () => {
    const lines: object[] = [];
    const logger = {
      debug: () => 0,
      info: () => 0,
      error: () => 0,
      warn: (...line: object[]) => lines.push(line),
    } as never;
    engine = await createEngine({ models, logger, replicas: 1, handler: HANDLER });
    expect(await ask({ do: 'log' }, 'default')).toBe('said');
    await until(() => lines.length > 0);
    expect(lines).toContainEqual([{ replica: 'default-0', page: 7 }, 'something to say']);
  });

  it('runs models of the engine, loads them, and follows what their ids stand for', async () => {
    await start({ maxModelsPerReplica: 1 });
    expect(await ask({ do: 'run', model: 'times-2', x })).toBe(10);
    expect(await ask({ do: 'both', models: ['times-2', 'times-3'], x })).toEqual({ answer: 30, inputs: ['x'] });
    await until(() => engine.status().replicas[0]?.models.length === 1);
    expect(await engine.models.unloadAll()).toBeGreaterThan(0);
    expect(engine.status().replicas[0]?.models).toEqual([]);
    expect(await ask({ do: 'run', model: 'times-3', x })).toBe(15);
  });

  it.each(['nothing', 'text', 'an object for a message', 'what cannot be looked at'])(
    'fails alone also when what is thrown is %s',
    async (kind) => {
      await start();
      const answers = await Promise.all(
        [
          { do: 'echo', value: 1 },
          { do: 'odd', kind },
          { do: 'echo', value: 2 },
        ].map((request) => outcome(ask(request))),
      );
      expect(answers).toEqual([1, expect.stringContaining('INFERENCE_FAILED: the handler failed: '), 2]);
      // Nothing is left that a stop would wait for.
      await engine.close({ graceMs: 1_000 });
      expect(engine.status().state).toBe('closed');
    },
  );

  it('fails once when a model of it cannot be loaded', async () => {
    engine = await createEngine({ models: { broken: new Uint8Array(100) }, handler: HANDLER, replicas: 1 });
    expect(await outcome(ask({ do: 'run', model: 'broken', x }, 'default'))).toContain('MODEL_LOAD_FAILED');
    expect(await ask({}, 'default')).toMatchObject({ requests: 2 });
  });

  it('may hold more models at once than there is room for, while others come, go and are unloaded', async () => {
    await start({ maxModelsPerReplica: 1 });
    const several = { do: 'several', models: ['times-1', 'times-2', 'times-3'] };
    const calls = Array.from({ length: 30 }, (_, index) =>
      outcome(ask(index % 3 === 0 ? several : { do: 'both', models: ['times-1', `times-${(index % 3) + 1}`], x })),
    );
    for (let round = 0; round < 5; round += 1) await engine.models.unloadAll();
    const answers = await Promise.all(calls);
    expect(answers.filter((answer) => typeof answer === 'string')).toEqual([]);
    await until(() => engine.status().replicas[0]?.models.length === 1);
  });

  it('keeps what it holds, though that is unloaded and there is room for nothing beside it', async () => {
    engine = await createEngine({ models, replicas: 0 });
    const bytes = engine.models.size('times-1');
    await engine.destroy();
    await start({ maxModelBytesPerReplica: bytes });
    const calls = Array.from({ length: 12 }, () => outcome(ask({ do: 'both', models: ['times-1', 'times-2'], x })));
    for (let round = 0; round < 8; round += 1) await engine.models.unload('times-1');
    expect(await Promise.all(calls)).toEqual(Array(12).fill({ answer: 10, inputs: ['x'] }));
  });

  it('may leave a load behind that it did not wait for: it is ended, and its model can be unloaded', async () => {
    await start({ maxModelsPerReplica: 1 });
    for (let round = 0; round < 5; round += 1) {
      expect(await ask({ do: 'race', model: 'times-2' })).toBe('early');
      expect(await ask({ do: 'run', model: 'times-3', x })).toBe(15);
      await engine.models.unloadAll();
      expect(engine.status().replicas[0]?.models).toEqual([]);
    }
  });

  it('goes to a replica that has the model it names', async () => {
    await start({ replicas: 3 });
    await ask({ do: 'run', model: 'times-2', x }, 'app/times-2');
    const having = engine.status().replicas.filter((replica) => replica.models.length > 0);
    for (let request = 0; request < 10; request += 1) {
      const answer = await ask({}, 'app/times-2');
      expect(answer).toMatchObject({ replica: having[0]?.id, modelId: 'times-2' });
    }
  });
});

describe('a request that nobody wants any more', () => {
  it('is aborted in the handler, and the others go on', async () => {
    await start();
    const cancel = new AbortController();
    const cancelled = outcome(ask({ do: 'wait' }, 'app', { signal: cancel.signal }));
    const late = outcome(ask({ do: 'wait' }, 'app', { timeoutMs: 30 }));
    await until(() => engine.deployments.get('app').ongoing > 0);
    cancel.abort();
    expect(await cancelled).toContain('CANCELLED');
    expect(await late).toContain('DEADLINE_EXCEEDED');
    expect(await ask({ do: 'echo', value: 'next' })).toBe('next');
    await until(() => engine.deployments.get('app').ongoing === 0);
  });

  it('does not hold up those behind it, though its handler goes on for ever', async () => {
    await start();
    for (let round = 0; round < 60; round += 1) await ask({ do: 'echo', value: round });
    const hung = outcome(ask({ do: 'wait', isStubborn: true }, 'app', { timeoutMs: 50 }));
    const behind = Array.from({ length: 8 }, (_, value) => ask({ do: 'echo', value }));
    expect(await hung).toContain('DEADLINE_EXCEEDED');
    expect(await Promise.all(behind)).toEqual(Array.from({ length: 8 }, (_, value) => value));
    await until(() => engine.deployments.get('app').ongoing === 0);
  });

  it.each(['close', 'destroy'] as const)('ends with its thread when the engine does: %s', async (how) => {
    await start({ gracefulShutdownTimeoutMs: 100 });
    const counter = new Int32Array(new SharedArrayBuffer(4));
    const late = outcome(ask({ do: 'count', counter }, 'app', { timeoutMs: 50 }));
    expect(await late).toContain('DEADLINE_EXCEEDED');
    await engine[how]();
    const last = Atomics.load(counter, 0);
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect([Atomics.load(counter, 0), last > 0]).toEqual([last, true]);
  });

  it('does not keep a replica that is given up', async () => {
    await start({ replicas: 1, gracefulShutdownTimeoutMs: 50 });
    const stubborn = outcome(ask({ do: 'wait', isStubborn: true }));
    await until(() => engine.deployments.get('app').ongoing > 0);
    const deleted = await engine.deployments.delete('app');
    expect(await deleted.done).toBe('reached');
    expect(await stubborn).toContain('FAILED_PRECONDITION: deployment app was deleted');
  });
});

describe('a configuration', () => {
  it('is there before the first request, and is changed in place', async () => {
    await start({ replicas: 2, userConfig: { factor: 2 } });
    expect(await ask({ do: 'run', model: 'times-1', x })).toBe(10);
    const goal = await engine.deployments.update('app', { userConfig: { factor: 3 } });
    expect(await goal.done).toBe('reached');
    expect(await ask({ do: 'run', model: 'times-1', x })).toBe(15);
    const replicas = engine.status().replicas.map(({ id, restarts }) => [id, restarts]);
    expect(replicas).toEqual([
      ['app-0', 0],
      ['app-1', 0],
    ]);
  });

  it('that is refused leaves the others as they are, until another one is taken', async () => {
    await start({ replicas: 2, userConfig: { factor: 2 } });
    const refused = await engine.deployments.update('app', { userConfig: { refuse: true } });
    await expect(refused.done).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: 'the handler refused its userConfig: no such configuration',
    });
    expect(engine.deployments.get('app')).toMatchObject({ state: 'unhealthy', ready: true, runningReplicas: 2 });
    expect(await ask({ do: 'run', model: 'times-1', x })).toBe(10);
    await (await engine.deployments.update('app', { userConfig: { factor: 4 } })).done;
    expect(await ask({ do: 'run', model: 'times-1', x })).toBe(20);
    expect(engine.deployments.get('app').state).toBe('healthy');
  });

  it('that is refused is asked about again with the next change, and a replica that dies comes back with the last one', async () => {
    await start({ replicas: 1, userConfig: { factor: 2 } });
    const refused = await engine.deployments.update('app', { userConfig: { refuse: true } });
    await expect(refused.done).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    const again = await engine.deployments.update('app', { maxQueuedRequests: 77 });
    await expect(again.done).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    expect(await outcome(ask({ do: 'exit' }))).toContain('REPLICA_FAILED');
    await until(() => engine.deployments.get('app').ready);
    expect(await ask({ do: 'run', model: 'times-1', x })).toBe(10);
  });

  it('that is refused while its deployment is deleted does not keep that', async () => {
    await start({ replicas: 2, userConfig: { factor: 2 } });
    const slow = ask({ do: 'nap', ms: 50 });
    const refused = await engine.deployments.update('app', { userConfig: { refuse: true } });
    const deleted = await engine.deployments.delete('app');
    expect(await slow).toBe('rested');
    expect(await deleted.done).toBe('reached');
    expect(['failed', 'superseded']).toContain(refused.status);
    await (await engine.deployments.create('app', { handler: HANDLER })).done;
    expect(await ask({ do: 'echo', value: 1 })).toBe(1);
  });

  it('of a handler that does not take one in place comes with new replicas', async () => {
    await start({ handler: OWN_MODELS, userConfig: { any: 1 } });
    const goal = await engine.deployments.update('app', { userConfig: { any: 2 } });
    expect(await goal.done).toBe('reached');
    expect(engine.status().replicas.map(({ id }) => id)).toEqual(['app-1']);
  });
});

describe('health', () => {
  it('replaces a replica whose handler says that it is ill', async () => {
    await start({ healthCheck: { periodMs: 5, failures: 2 } });
    expect(await ask({ do: 'fall ill' })).toBe('ill');
    await until(() => engine.status().replicas[0]?.restarts === 1 && engine.ready);
    expect(engine.deployments.get('app').lastFailure).toContain('health check failed: not well');
    expect(await ask({ do: 'echo', value: 1 })).toBe(1);
  });

  it('replaces a replica whose handler keeps its thread for ever, and the thread is ended', async () => {
    await start({ healthCheck: { periodMs: 20, timeoutMs: 30, failures: 2 } });
    // It ends two replicas, and then is answered.
    expect(await outcome(ask({ do: 'spin' }))).toContain(
      'REPLICA_FAILED: replica app-0 failed: no answer to a health check',
    );
    await until(() => engine.ready);
    expect(await ask({ do: 'echo', value: 1 })).toBe(1);
    const before = performance.now();
    await engine.close();
    expect(performance.now() - before).toBeLessThan(10_000);
  });

  it('is not what stats are about: a handler that fails to tell them goes on', async () => {
    await start({ routingStats: { periodMs: 5 }, userConfig: { noStats: true } });
    for (let round = 0; round < 20; round += 1) await ask({ do: 'echo', value: round });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(engine.status().replicas).toMatchObject([{ restarts: 0, routingStats: { throughput: expect.any(Number) } }]);
  });

  it('nor may it put anything but numbers in their place', async () => {
    const messages: string[] = [];
    const logger = pino({ level: 'warn' }, { write: (line) => messages.push(line) });
    await start({ routingStats: { periodMs: 5 }, userConfig: { noNumbers: true } }, logger);
    await until(() => messages.some((line) => line.includes('NaN for throughput instead of a finite number')));
    expect(engine.status().replicas).toMatchObject([{ routingStats: { throughput: expect.any(Number) } }]);
    expect(engine.status().replicas[0]?.routingStats?.throughput).not.toBeNaN();
  });

  it('is asked for again and again, with what the handler tells of itself', async () => {
    await start({ routingStats: { periodMs: 5 } });
    await ask({ do: 'echo', value: 1 });
    await until(() => engine.status().replicas[0]?.routingStats?.['requests'] === 1);
  });

  it('and by another period from the moment that it is named', async () => {
    await start({ routingStats: { periodMs: 3_600_000 } });
    const [name] = engine.deployments.list().filter(({ options }) => options.handler !== undefined);
    await (await engine.deployments.update(name?.name ?? '', { routingStats: { periodMs: 5 } })).done;
    await until(() => engine.status().replicas.some(({ routingStats }) => routingStats?.['requests'] !== undefined));
  });

  it('a handler that ends its thread costs its own request alone', async () => {
    await start({ replicas: 2 });
    const others = Array.from({ length: 10 }, (_, value) => ask({ do: 'echo', value }));
    expect(await outcome(ask({ do: 'exit' }))).toContain('REPLICA_FAILED');
    expect(await Promise.all(others)).toEqual(Array.from({ length: 10 }, (_, value) => value));
    await until(() => engine.ready);
  });
});

describe('models of the handler', () => {
  const load = (ids?: string[], target = 'app') =>
    ask<{ models: string[]; replica: string; story: string[] }>(ids, target);

  it('are kept like sessions, and disposed of when they leave', async () => {
    await start({ handler: OWN_MODELS, maxModelsPerReplica: 2 });
    for (const id of ['a', 'b', 'a', 'c']) await load([id]);
    await until(() => engine.status().replicas[0]?.models.length === 2);
    expect(
      engine
        .status()
        .replicas[0]?.models.map(({ id }) => id)
        .sort(),
    ).toEqual(['a', 'c']);
    const { story } = await load([]);
    expect(story).toEqual(['loaded a', 'loaded b', 'disposed b', 'loaded c']);
  });

  it('may be more at once than there is room for, as long as one request needs them', async () => {
    await start({ handler: OWN_MODELS, maxModelsPerReplica: 1 });
    const { models: ids } = await load(['a', 'b', 'plain c']);
    expect(ids).toEqual(['a', 'b', 'plain c']);
    await until(() => engine.status().replicas[0]?.models.length === 1);
    expect((await load(['d'])).story).toEqual(expect.arrayContaining(['disposed a', 'disposed b', 'loaded d']));
  });

  it('draw requests that name them', async () => {
    await start({ handler: OWN_MODELS, replicas: 3 });
    const { replica } = await load(undefined, 'app/mine');
    for (let request = 0; request < 10; request += 1) {
      expect(await load(undefined, 'app/mine')).toMatchObject({ replica, story: ['loaded mine'] });
    }
  });

  it('that cannot be loaded are MODEL_LOAD_FAILED', async () => {
    await start({ handler: OWN_MODELS });
    expect(await outcome(load(['bad']))).toContain(
      'MODEL_LOAD_FAILED: the handler could not load model "bad": nothing there',
    );
    expect((await load(['good'])).models).toEqual(['good']);
  });
});

describe('a module that is no handler', () => {
  let broken: InferenceEngine;
  beforeAll(async () => {
    broken = await createEngine({ models, replicas: 0 });
    return () => broken.close();
  });

  it.each([
    ['../support/until.ts', 'could not be imported'],
    ['../support/directories.js', 'could not be imported'],
    [
      '../support/nothing-handler.mjs',
      'must export a function handle, by name or in its default; it exports "loadModel"',
    ],
  ])('%s is refused by name', async (path, reason) => {
    const handler = new URL(path, import.meta.url);
    const goal = await broken.deployments.create('app', { handler });
    expect(await outcome(goal.done)).toContain(reason);
    await (await broken.deployments.delete('app')).done;
  });
});
