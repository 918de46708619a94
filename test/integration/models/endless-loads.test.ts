import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { requestsTo } from '../../support/engines/handlers-engine.js';
import { code, one, questionsTo, row, startModels } from '../../support/engines/models-engine.js';
import { scaleModel, slowLoadModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
let logged: string[];
const { ask, stateOf, metric } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine, logged } = await startModels(models, { replicas: 3, gracefulShutdownTimeoutMs: 60_000, ...options }));
}

// Until the last load has ended, so that no thread takes time from the next test.
afterEach(() => engine?.destroy());

/** Loads for seconds: long enough that every test is over before. */
const slow = slowLoadModel(150);
const good = scaleModel(2);
const loading = (id: string) => stateOf(id).filter((state) => state === 'loading').length;

describe('a model whose load does not end', () => {
  it('is tried by one replica, and the others answer for all other models', async () => {
    await start(
      { bad: slow, good },
      { healthCheck: { periodMs: 50, timeoutMs: 50, failures: 2 }, defaultTimeoutMs: 60_000 },
    );
    const calls = Array.from({ length: 6 }, () => code(engine.run('bad', one, { timeoutMs: 1_500 })));
    await until(() => loading('bad') === 1);
    let isOver = false;
    const answers = Promise.all(calls).then((codes) => {
      isOver = true;
      return codes;
    });
    while (!isOver) {
      expect(await ask('good')).toBe(2);
      expect(loading('bad')).toBe(1);
    }
    expect(await answers).toEqual(Array(6).fill('DEADLINE_EXCEEDED'));
    expect(engine.status().replicas.map(({ restarts }) => restarts)).toEqual([0, 0, 0]);
  });

  it('fails its callers after loadTimeoutMs, and its replica is replaced', async () => {
    await start({ bad: slow, good }, { loadTimeoutMs: 200 });
    const error = { code: 'MODEL_LOAD_FAILED', retryable: true, message: expect.stringContaining('loadTimeoutMs') };
    await expect(engine.run('bad', one)).rejects.toMatchObject({ ...error, retryAfterMs: expect.any(Number) });
    expect(await metric('infermux_load_model_exceptions_total')).toBe(1);
    expect(logged).toContainEqual(expect.stringMatching(/^model load failed: bad: .*within 200 ms/));
    await expect(engine.models.load('bad')).rejects.toMatchObject(error);
    await until(() => engine.status().replicas.filter(({ state }) => state === 'running').length === 3);
    expect(engine.models.get('bad').replicas).toContainEqual({
      replica: expect.any(String),
      state: 'failed',
      reason: expect.stringContaining('within 200 ms'),
      nextTryInMs: expect.any(Number),
    });
    expect(await ask('good')).toBe(2);
  });

  it('is not loaded again while the thread is still in that load', async () => {
    await start({ bad: slow, good }, { loadTimeoutMs: 100 });
    expect(await code(engine.run('bad', one))).toBe('MODEL_LOAD_FAILED');
    const startedAt = performance.now();
    // The first while is a second.
    while (performance.now() - startedAt < 1_200) expect(await code(engine.run('bad', one))).toBe('MODEL_LOAD_FAILED');
    expect(loading('bad')).toBe(0);
    expect(await metric('infermux_load_model_exceptions_total')).toBe(1);
  });

  it('fails those who load it ahead, and holds up one replica only where it is to be pinned on all', async () => {
    await start({ bad: slow, good }, { loadTimeoutMs: 1_000 });
    const load = code(engine.models.load('bad', { replicas: 'all', pin: true }));
    const again = code(engine.models.load('bad'));
    await until(() => loading('bad') === 1);
    expect(await ask('good')).toBe(2);
    expect(loading('bad')).toBe(1);
    expect([await load, await again]).toEqual(['MODEL_LOAD_FAILED', 'MODEL_LOAD_FAILED']);
  });

  it('holds up one replica only where its model.json pins it', async () => {
    const models = directory({ 'bad/model.onnx': slow, 'bad/model.json': '{ "pinned": true }', 'good.onnx': good });
    await start(models, { loadTimeoutMs: 1_500, repository: { waitForInitialLoad: false } });
    await until(() => loading('bad') === 1);
    expect(await ask('good')).toBe(2);
    expect(loading('bad')).toBe(1);
  });

  it('may take as long as it needs without a bound, and is a model like any other after that', async () => {
    await start({ slow: slowLoadModel(8), good }, { loadTimeoutMs: -1 });
    expect(await Promise.all([1, 2, 3].map(() => code(engine.run('slow', one))))).toEqual(['done', 'done', 'done']);
    await engine.models.load('slow', { replicas: 'all' });
    expect(stateOf('slow')).toEqual(['loaded', 'loaded', 'loaded']);
  });
});

describe('a model whose load does not end, in a handler', () => {
  const handler = new URL('../../support/handler.mjs', import.meta.url);
  const send = requestsTo(() => engine);
  const run = (model: string) => send<number>({ do: 'run', model, x: row.x.data });

  it('is tried by one replica, and then fails for all', async () => {
    await start(
      { bad: slow, good },
      { replicas: 0, deployments: { app: { handler, replicas: 3, loadTimeoutMs: 2_000 } } },
    );
    const bad = [1, 2].map(() => code(run('bad')));
    await until(() => loading('bad') === 1);
    while (loading('bad') === 1) expect(await run('good')).toBe(2);
    expect(await Promise.all(bad)).toEqual(['MODEL_LOAD_FAILED', 'MODEL_LOAD_FAILED']);
    expect(await code(run('bad'))).toBe('MODEL_LOAD_FAILED');
    expect(await metric('infermux_load_model_exceptions_total')).toBe(1);
  });

  it('fails in time where the handler loads it by itself', async () => {
    const own = new URL('../../support/own-models-handler.mjs', import.meta.url);
    await start({}, { replicas: 0, deployments: { app: { handler: own, replicas: 2, loadTimeoutMs: 200 } } });
    const send = requestsTo(() => engine);
    expect(await code(send(undefined, 'app/endless'))).toBe('MODEL_LOAD_FAILED');
    expect(await send(['fine'])).toMatchObject({ models: ['fine'] });
  });

  it('holds up none that only bear its name', async () => {
    await start({ good }, { replicas: 0, deployments: { app: { handler, replicas: 2 } } });
    const send = requestsTo(() => engine);
    const controller = new AbortController();
    // It loads nothing, and does not end by itself.
    const waiting = code(send({ do: 'wait' }, 'app/good', { signal: controller.signal }));
    expect(await send({ do: 'run', model: 'good', x: row.x.data }, 'app/good')).toBe(2);
    expect(await send({ do: 'run', model: 'good', x: row.x.data })).toBe(2);
    controller.abort();
    expect(await waiting).toBe('CANCELLED');
  });

  it('is tried by one replica where nobody waits for it', async () => {
    const options = { handler, replicas: 3, maxOngoingRequests: 1, loadTimeoutMs: 60_000 };
    await start({ bad: slow, good }, { replicas: 0, deployments: { app: options } });
    const send = requestsTo(() => engine);
    for (let call = 0; call < 12; call += 1) expect(await send({ do: 'ask in vain', model: 'bad' })).toBe('asked');
    await until(() => loading('bad') === 1);
    for (let call = 0; call < 12; call += 1) expect(await run('good')).toBe(2);
    expect(loading('bad')).toBe(1);
  });
});
