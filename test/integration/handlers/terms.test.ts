import { BroadcastChannel } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import type { DeploymentOptions, InferenceEngine, RunOptions } from '../../../dist/index.js';
import { createEngine } from '../../../dist/index.js';
import { models, outcome, requestsTo, startHandler, x } from '../../support/engines/handlers-engine.js';
import { areThreads } from '../../support/isolation.js';
import { until } from '../../support/until.js';

const TERMS = new URL('../../support/terms-handler.mjs', import.meta.url);
const BATCHES = new URL('../../support/batch-terms-handler.mjs', import.meta.url);
const LATE = new URL('../../support/late-handler.mjs', import.meta.url);
const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/;

let engine: InferenceEngine;
const ask = requestsTo(() => engine);
const start = async (options: DeploymentOptions = {}) => {
  engine = await startHandler({ handler: TERMS, ...options });
};

async function collect(stream: AsyncIterable<unknown>): Promise<unknown[]> {
  const items: unknown[] = [];
  for await (const item of stream) items.push(item);
  return items;
}

afterEach(() => engine?.destroy());

describe('a handler knows of a request', () => {
  it('nothing but an id of its own where the caller has said nothing', async () => {
    await start();
    const [first, second] = await Promise.all([ask<{ requestId: string }>({}), ask<{ requestId: string }>({})]);
    expect(first).toEqual({
      ...{ requestId: expect.stringMatching(UUID), method: undefined, shardKey: undefined, labels: {}, hints: {} },
      ...{ priority: 0, deadline: undefined, isShadow: false, requests: 1 },
    });
    expect(first.requestId).not.toBe(second.requestId);
  });

  it('what the caller has said, and when it stops waiting', async () => {
    await start();
    const options: RunOptions = {
      ...{ requestId: 'r-1', shardKey: 'ada', labels: { zone: 'a' }, hints: { tokens: 7 }, priority: 3 },
      timeoutMs: 5_000,
    };
    const before = Date.now();
    const { deadline, ...others } = await ask<{ deadline: number }>({}, 'app', options);
    const { timeoutMs: _, ...said } = options;
    expect(others).toEqual({ ...said, method: undefined, isShadow: false, requests: 1 });
    expect(deadline).toBeGreaterThan(before + 4_900);
    expect(deadline).toBeLessThan(Date.now() + 5_100);
  });

  it('that it is a shadow; its own priority is none of the caller', async () => {
    engine = await createEngine({
      models,
      replicas: 0,
      deployments: {
        app: { handler: TERMS },
        copy: { handler: new URL('../../support/handler.mjs', import.meta.url) },
      },
    });
    await engine.endpoints.set('e', { traffic: { copy: 1 }, shadow: { app: 1 } });
    await engine.run<unknown>('e', { echo: 1 }, { hints: { a: 1 }, requestId: 'r-2' });
    await until(() => engine.status().replicas.find(({ deployment }) => deployment === 'app')?.completed === 1);
    expect(engine.status().replicas.find(({ deployment }) => deployment === 'app')?.failed).toBe(0);
  });

  it('the id of the request that made it, unless it has one of its own', async () => {
    await start();
    const inner = await ask<{ requestId: string }>({ next: 'app' }, 'app', { requestId: 'outer' });
    expect(inner.requestId).toBe('outer');
    const own = { next: 'app', options: { requestId: 'inner', hints: { a: true } } };
    const unnamed = { next: 'app', options: { requestId: undefined } };
    expect(await ask(unnamed, 'app', { requestId: 'outer' })).toMatchObject({ requestId: 'outer' });
    expect(await ask(own, 'app', { requestId: 'outer' })).toMatchObject({ requestId: 'inner', hints: { a: true } });
  });

  it('of each of a batch', async () => {
    await start({ handler: BATCHES, batching: { maxSize: 8, maxWaitMs: 20 } });
    const answers = await Promise.all(
      [1, 2, 3].map((value) => ask<{ batch: number }>(value, 'app', { hints: { value } })),
    );
    expect(answers.map(({ batch: _, ...answer }) => answer)).toEqual(
      [1, 2, 3].map((value) => ({ value, hints: { value } })),
    );
  });
});

describe('a method', () => {
  it('takes the requests that name it, in place of handle, also for a stream', async () => {
    await start();
    expect(await ask(21, 'app', { method: 'twice' })).toEqual({ answer: 42, method: 'twice' });
    expect(await collect(engine.stream('app', 3, { method: 'count' }))).toEqual([1, 2, 3]);
  });

  it('takes them one by one beside batches', async () => {
    await start({ handler: BATCHES, batching: { maxSize: 8, maxWaitMs: 20 } });
    const calls = [1, 2, 3, 4].map((value) =>
      ask<{ value: number; batch: number }>(value, 'app', value % 2 === 0 ? { method: 'alone' } : {}),
    );
    const answers = await Promise.all(calls);
    expect(answers.map(({ value }) => value)).toEqual([1, 2, 3, 4]);
    expect([answers[1]?.batch, answers[3]?.batch]).toEqual([1, 1]);
  });

  it('holds no batch up, be it slow or without end; one that is not there fails without a call of a getter', async () => {
    await start({ handler: BATCHES });
    const stream = engine.stream<number>('app', 0, { method: 'endless' });
    expect(await stream.next()).toMatchObject({ value: 0 });
    const slow = Array.from({ length: 3 }, () => ask<number>(20_000, 'app', { method: 'pause', timeoutMs: 10_000 }));
    const ended = Promise.all(slow.map(outcome));
    const answers = await Promise.all([1, 2, 3].map((value) => ask<{ value: number }>(value)));
    expect(answers.map(({ value }) => value)).toEqual([1, 2, 3]);
    expect(await outcome(ask(1, 'app', { method: 'trap' }))).toBe(
      'INVALID_ARGUMENT: the handler has no method "trap"; there are: "pause", "endless", "alone"',
    );
    // Two of five take the last place beside the batches; the next waits for one of them.
    const fifth = ask<number>(1, 'app', { method: 'pause' });
    expect(await fifth).toBe(1);
    await stream.return?.();
    await engine.destroy();
    expect((await ended)[0]).not.toBe('done');
  });

  it.each(['none', 'notAFunction', 'loadModel', 'handleBatch', 'toString', 'constructor', '__proto__', 'default'])(
    'that the handler does not have is refused with those that it has: %s',
    async (method) => {
      await start();
      expect(await outcome(ask({}, 'app', { method }))).toBe(
        `INVALID_ARGUMENT: the handler has no method ${JSON.stringify(method)}; there are: "count", "twice"`,
      );
    },
  );

  it('is for handlers alone', async () => {
    engine = await createEngine({ models, replicas: 1 });
    const feeds = { x: { dims: [1, 4], data: x } };
    expect(await outcome(engine.run('times-1', feeds, { method: 'handle' }))).toContain(
      'INVALID_ARGUMENT: method is for handlers, and model "times-1" has none',
    );
    expect(await outcome(engine.run('times-1', feeds, { requestId: 7 as never }))).toContain('runOptions.requestId');
  });
});

describe('handlerTimeouts', () => {
  it('bound loadModel; what comes too late is disposed of', async () => {
    await start({ handler: LATE, handlerTimeouts: { loadModelMs: 30 } });
    expect(await outcome(ask({}, 'app/m'))).toContain('the handler could not load model "m": not within 30 ms');
    await until(async () => (await ask<string[]>('disposed')).length === 1);
    expect(await ask('disposed')).toEqual(['m']);
  });

  it.runIf(areThreads)('is disposed of while nothing else happens, and a disposal that fails is told', async () => {
    const channel = new BroadcastChannel('late-handler');
    const disposed = new Promise((resolve) => {
      channel.onmessage = (event) => resolve((event as MessageEvent).data);
    });
    await start({ handler: LATE, handlerTimeouts: { loadModelMs: 30 } });
    const told: unknown[] = [];
    engine.on('modelReleaseFailed', ({ model, reason }) => told.push([model, reason]));
    expect(await outcome(ask({}, 'app/m'))).toContain('not within 30 ms');
    expect(await disposed).toBe('m');
    channel.close();
    expect(await outcome(ask({}, 'app/stuck'))).toContain('not within 30 ms');
    await until(() => told.length > 0);
    expect(told).toEqual([['stuck', expect.stringContaining('not today')]]);
  });

  it('without a limit wait', async () => {
    await start({ handler: LATE, handlerTimeouts: { loadModelMs: -1, disposeMs: -1 } });
    expect(await ask({}, 'app/m')).toBe('m');
  });

  it('bound reconfigure', async () => {
    await start({ handler: LATE, userConfig: { afterMs: 0 }, handlerTimeouts: { reconfigureMs: 50 } });
    const goal = await engine.deployments.update('app', { userConfig: { afterMs: 2_000 } });
    expect(await outcome(goal.done)).toContain('the handler did not take its userConfig within 50 ms');
  });

  it('are for handlers alone', async () => {
    const started = createEngine({ models, handlerTimeouts: { loadModelMs: 1 } } as never);
    expect(await outcome(started)).toContain('INVALID_ARGUMENT');
  });

  it.each([{ loadModelMs: 0 }, { disposeMs: '1' }, { reconfigure: 1 }])('%j are refused', async (handlerTimeouts) => {
    expect(await outcome(start({ handlerTimeouts: handlerTimeouts as never }))).toContain('handlerTimeouts');
  });
});
