import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type DeploymentOptions, type InferenceEngine } from '../../../dist/index.js';
import { HANDLER, models, outcome, requestsTo } from '../../support/engines/handlers-engine.js';
import { until } from '../../support/until.js';

const handler = new URL('../../support/batch-handler.mjs', import.meta.url);
let engine: InferenceEngine;
const ask = requestsTo(() => engine);

async function start(options: DeploymentOptions = {}): Promise<void> {
  const deployments = { app: { handler, ...options }, single: { handler: HANDLER } };
  engine = await createEngine({ models, replicas: 0, deployments });
}

/** Occupies the one replica, so that other requests wait behind it. */
async function occupy(ms = 30): Promise<unknown> {
  const first = ask({ wait: ms });
  await until(() => engine.deployments.get('app').ongoing > 0);
  return first;
}

afterEach(() => engine?.destroy());

describe('a handler of batches', () => {
  it('is given what waits in one call, up to maxSize', async () => {
    await start({ batching: { maxSize: 8 } });
    void ask({ wait: 30 });
    await until(() => engine.deployments.get('app').ongoing > 0);
    const waiting = Array.from({ length: 20 }, (_, value) => ask(value));
    expect(await Promise.all(waiting)).toEqual(Array.from({ length: 20 }, (_, value) => value));
    expect(await ask('sizes')).toEqual([1, 8, 8, 4, 1]);
  });

  it('lets the first request wait for company if it is told to', async () => {
    await start({ batching: { maxSize: 3, maxWaitMs: 10_000 } });
    const startedAt = performance.now();
    expect(await Promise.all([1, 2, 3].map((value) => ask(value)))).toEqual([1, 2, 3]);
    expect(performance.now() - startedAt).toBeLessThan(9_000);
    await (await engine.deployments.update('app', { batching: { maxSize: 3, maxWaitMs: 1 } })).done;
    expect(await ask('sizes')).toEqual([3, 1]);
  });

  it('is given one request at a time without batching', async () => {
    await start({ batching: false });
    expect(await Promise.all([1, 2, 3].map((value) => ask(value)))).toEqual([1, 2, 3]);
    expect(await ask('sizes')).toEqual([1, 1, 1, 1]);
  });

  it('fails one request alone by an Error in its place, and by an answer that cannot be cloned', async () => {
    await start();
    void occupy();
    await until(() => engine.deployments.get('app').ongoing > 0);
    const answers = ['first', 'error', 'function', 'last'].map((request) => outcome(ask(request)));
    expect(await Promise.all(answers)).toEqual([
      'first',
      'INFERENCE_FAILED: the handler failed: this one',
      expect.stringContaining('INFERENCE_FAILED: the handler returned what cannot be cloned'),
      'last',
    ]);
    expect(await ask('sizes')).toEqual([1, 4, 1]);
  });

  it.each([
    ['too few', 'handleBatch must return a list of 2 answers, one for each request, got 1 answers'],
    ['no list', 'handleBatch must return a list of 2 answers, one for each request, got "none"'],
    ['throw', 'the handler failed: all of them'],
  ])('fails all requests of a call: %s', async (what, message) => {
    await start();
    void occupy();
    await until(() => engine.deployments.get('app').ongoing > 0);
    const answers = await Promise.all([outcome(ask(what)), outcome(ask('other'))]);
    expect(answers).toEqual([expect.stringContaining(message), expect.stringContaining(message)]);
    expect(await ask('fine')).toBe('fine');
  });

  it('keeps requests for different models apart', async () => {
    await start();
    void occupy();
    await until(() => engine.deployments.get('app').ongoing > 0);
    const targets = ['app', 'app/times-1', 'app/times-2', 'app/times-1'];
    const answers = targets.map((target) => ask('model', target));
    expect(await Promise.all(answers)).toEqual([undefined, 'times-1', 'times-2', 'times-1']);
  });

  it('says the size of the batch in infer, and answers one call at a time', async () => {
    await start();
    void occupy();
    await until(() => engine.deployments.get('app').ongoing > 0);
    const results = [1, 2, 3].map((feeds) => engine.infer<number>({ target: 'app', feeds }));
    expect((await Promise.all(results)).map(({ outputs, batchSize }) => [outputs, batchSize])).toEqual([
      [1, 3],
      [2, 3],
      [3, 3],
    ]);
  });

  it('is not aborted before nobody wants an answer', async () => {
    await start();
    const controllers = [new AbortController(), new AbortController()];
    void occupy();
    await until(() => engine.deployments.get('app').ongoing > 0);
    const answers = controllers.map(({ signal }) => outcome(ask('never', 'app', { signal })));
    await until(() => engine.deployments.get('app').ongoing === 2);
    controllers[0]?.abort();
    expect(await answers[0]).toContain('CANCELLED');
    await new Promise(setImmediate);
    expect(engine.deployments.get('app').ongoing).toBe(2);
    controllers[1]?.abort();
    expect(await answers[1]).toContain('CANCELLED');
    expect(await ask('next')).toBe('next');
  });

  it('has the requests of a batch that ended its thread run once more, each alone', async () => {
    await start();
    void occupy();
    await until(() => engine.deployments.get('app').ongoing > 0);
    const answers = ['first', 'exit', 'last'].map((request) => outcome(ask(request)));
    expect(await Promise.all(answers)).toEqual(['first', expect.stringContaining('REPLICA_FAILED'), 'last']);
  });

  it('reaches other deployments, and itself, from within a call', async () => {
    await start();
    const nested = { nested: 'single', request: { do: 'echo', value: 7 } };
    expect(await Promise.all([ask(nested), ask(nested)])).toEqual([7, 7]);
    expect(await ask({ nested: 'app', request: 'inner' })).toBe('inner');
  });

  it('ends with an error at a depth of 16, whatever comes meanwhile', async () => {
    await start({ batching: { maxSize: 8, maxWaitMs: 1 } });
    const endless = outcome(ask({ isEndless: true }));
    let isOver = false;
    void endless.then(() => {
      isOver = true;
    });
    while (!isOver) {
      void outcome(ask('company'));
      await new Promise(setImmediate);
    }
    expect(await endless).toContain('16 deep within each other');
  });
});
