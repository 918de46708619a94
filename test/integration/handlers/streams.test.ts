import { afterEach, describe, expect, it } from 'vitest';
import { createEngine, type InferenceEngine } from '../../../dist/index.js';
import { HANDLER, models, outcome, requestsTo } from '../../support/engines/handlers-engine.js';
import { areThreads } from '../../support/isolation.js';
import { until } from '../../support/until.js';

const handler = new URL('../../support/stream-handler.mjs', import.meta.url);
let engine: InferenceEngine;
const ask = requestsTo(() => engine);

async function start(replicas = 1): Promise<void> {
  const batches = new URL('../../support/batch-handler.mjs', import.meta.url);
  const deployments = { app: { handler, replicas }, single: { handler: HANDLER }, batches: { handler: batches } };
  engine = await createEngine({ models, replicas: 0, deployments });
}

/** Takes all items, and the outcome of an error in its place. */
async function collect(stream: AsyncIterable<unknown>): Promise<unknown[]> {
  const items: unknown[] = [];
  try {
    for await (const item of stream) items.push(item);
  } catch (error) {
    items.push(await outcome(Promise.reject(error)));
  }
  return items;
}

const state = () => ask<{ yielded: number; ended: number }>({ as: 'state' });
const ongoing = () => engine.deployments.get('app').ongoing;

afterEach(() => engine?.destroy());

describe('a stream of a handler', () => {
  it.each([
    ['generator', [0, 1, 2]],
    ['sync generator', [0, 1, 2]],
    ['readable', ['a', 'b', 'c']],
    ['web stream', [new TextEncoder().encode('text')]],
  ])('gives the items of a %s one by one, and run gives all of them', async (as, items) => {
    await start();
    expect(await collect(engine.stream('app', { as, count: 3 }))).toEqual(items);
    expect(await ask({ as, count: 3 })).toEqual(items);
  });

  it('gives each item as soon as it is there', async () => {
    await start();
    const stream = engine.stream<number>('app', { as: 'generator', count: 1e9, waitMs: 1 });
    expect(await stream.next()).toEqual({ done: false, value: 0 });
    expect((await state()).yielded).toBeLessThan(50);
    expect(await Promise.all([stream.next(), stream.next()])).toEqual([
      { done: false, value: 1 },
      { done: false, value: 2 },
    ]);
  });

  it('gives long ones whole and in order', async () => {
    await start();
    const items = await collect(engine.stream('app', { as: 'generator', count: 10_000 }));
    expect(items).toEqual(Array.from({ length: 10_000 }, (_, index) => index));
    await until(() => ongoing() === 0);
  });

  it('runs models as it goes on', async () => {
    await start();
    const names = ['times-1', 'times-2', 'times-3'];
    const request = { as: 'models', names, x: Float32Array.of(2, 0, 0, 0) };
    expect(await collect(engine.stream('app', request))).toEqual([2, 4, 6]);
  });

  it('has no more than 64 items ahead of a slow reader', async () => {
    await start();
    const stream = engine.stream<number>('app', { as: 'generator', count: 1e9 });
    for (let taken = 1; taken < 300; taken += 7) {
      for (let count = 0; count < 7; count += 1) await stream.next();
      // All that may be ahead is there by then.
      await state();
      expect((await state()).yielded).toBeLessThanOrEqual(taken + 6 + 64);
    }
    await stream.return?.();
  });

  it.each(['break', 'return', 'signal', 'deadline'])('ends the generator by %s', async (how) => {
    await start();
    const controller = new AbortController();
    const options = how === 'deadline' ? { timeoutMs: 50 } : { signal: controller.signal };
    const stream = engine.stream<number>('app', { as: 'generator', count: 1e9, waitMs: 1 }, options);
    await stream.next();
    if (how === 'break') for await (const _ of stream) break;
    if (how === 'return') expect(await stream.return?.()).toEqual({ done: true, value: undefined });
    if (how === 'signal') controller.abort();
    const end = (await collect(stream)).at(-1);
    if (how === 'signal') expect(end).toContain('CANCELLED');
    if (how === 'deadline') expect(end).toContain('DEADLINE_EXCEEDED');
    expect(await stream.next()).toEqual({ done: true, value: undefined });
    await until(async () => (await state()).ended === 1);
    await until(() => ongoing() === 0);
  });

  it.runIf(areThreads).each(['break', 'deadline', 'close'])(
    'has all that its generator does at its end done: %s',
    async (how) => {
      await start();
      const done = new Int32Array(new SharedArrayBuffer(4));
      const options = how === 'deadline' ? { timeoutMs: 50 } : {};
      const stream = engine.stream('app', { as: 'slow end', done }, options);
      await stream.next();
      if (how === 'deadline') await collect(stream);
      else await stream.return?.();
      // Nothing else wakes the replica.
      if (how === 'close') {
        await engine.close();
        expect(done[0]).toBe(1);
      } else await until(() => done[0] === 1);
    },
  );

  it('whose reader left it far behind does not hold up what closes the engine', async () => {
    await start();
    for await (const _ of engine.stream('app', { as: 'generator', count: 1e9 })) {
      await until(async () => (await state()).yielded > 60);
      break;
    }
    const before = performance.now();
    await engine.close();
    expect(performance.now() - before).toBeLessThan(5_000);
  });

  it('has no error for a reader that has left it', async () => {
    await start();
    const stream = engine.stream('app', { as: 'generator', count: 9, throwAt: 2 });
    await stream.next();
    await until(() => ongoing() === 0);
    expect(await stream.return?.()).toEqual({ done: true, value: undefined });
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });

  it('can be cancelled as a whole, and holds up no other, though its generator never waits', async () => {
    await start();
    const controller = new AbortController();
    const all = outcome(ask({ as: 'generator', count: 1e12 }, 'app', { signal: controller.signal }));
    await until(async () => (await state()).yielded > 100);
    controller.abort();
    expect(await all).toContain('CANCELLED');
    await until(async () => (await state()).ended === 1);
  });

  it('minds a signal that is not of Node, and leaves no listener on it', async () => {
    await start();
    const listeners = new Set<() => void>();
    const signal = {
      aborted: false,
      reason: 'as asked',
      addEventListener: (_: string, listener: () => void) => listeners.add(listener),
      removeEventListener: (_: string, listener: () => void) => listeners.delete(listener),
    };
    const options = { signal: signal as unknown as AbortSignal };
    expect(await collect(engine.stream('app', { as: 'generator', count: 3 }, options))).toEqual([0, 1, 2]);
    expect(listeners.size).toBe(0);
    const stream = engine.stream('app', { as: 'generator', count: 1e9, waitMs: 1 }, options);
    await stream.next();
    for (const abort of listeners) abort();
    expect((await collect(stream)).at(-1)).toContain('CANCELLED');
    expect(listeners.size).toBe(0);
  });

  it('costs nothing else when it fails after nobody wants it any more', async () => {
    await start();
    const controller = new AbortController();
    const late = outcome(ask({ as: 'late file' }, 'app', { signal: controller.signal }));
    await until(() => ongoing() === 1);
    // Its handler has been called: this one is behind it.
    await state();
    controller.abort();
    expect(await late).toContain('CANCELLED');
    // Meanwhile the event loop of its thread runs.
    await ask({ as: 'generator', count: 10, waitMs: 5 });
    expect(engine.status().replicas.find(({ deployment }) => deployment === 'app')?.restarts).toBe(0);
  });

  it('ends though its generator does not', async () => {
    await start();
    const stream = engine.stream('app', { as: 'stuck end' });
    await stream.next();
    await stream.return?.();
    await until(() => ongoing() === 0);
  });

  it('ends a request that waits for a replica', async () => {
    await start();
    const others = Array.from({ length: 5 }, () => engine.stream('app', { as: 'generator', count: 1e9 }));
    await Promise.all(others.map((stream) => stream.next()));
    const waiting = engine.stream('app', { as: 'generator', count: 3 });
    const first = waiting.next();
    expect(engine.deployments.get('app').queued).toBe(1);
    await waiting.return?.();
    expect(await first).toEqual({ done: true, value: undefined });
    expect(engine.deployments.get('app').queued).toBe(0);
  });

  it('is not asked for before its first item is', async () => {
    await start();
    const unused = engine.stream('app', { as: 'generator', count: 3 });
    expect(await unused.return?.()).toEqual({ done: true, value: undefined });
    expect(await collect(unused)).toEqual([]);
    const request = { as: 'generator', count: 3 };
    const stream = engine.stream('app', request);
    request.count = 1;
    expect(await collect(stream)).toEqual([0, 1, 2]);
    expect(await state()).toMatchObject({ yielded: 3 });
  });

  it('has its error after the items before it', async () => {
    await start();
    const thrown = await collect(engine.stream('app', { as: 'generator', count: 200, throwAt: 150 }));
    expect(thrown).toEqual([
      ...Array.from({ length: 150 }, (_, index) => index),
      'INFERENCE_FAILED: the handler failed: as asked',
    ]);
    const odd = await collect(engine.stream('app', { as: 'generator', count: 3, oddAt: 1 }));
    expect(odd).toEqual([0, expect.stringContaining('INFERENCE_FAILED: the handler returned what cannot be cloned')]);
    expect(await collect(engine.stream('app', { as: 'odd iterable' }))).toEqual([
      expect.stringContaining('next() gave no object'),
    ]);
    expect((await state()).ended).toBe(2);
  });

  it('has the items before an error that its handler passes on, whatever its code', async () => {
    await start();
    const late = { as: 'nested', target: 'app', options: { timeoutMs: 20 } };
    expect(await collect(engine.stream('app', late))).toEqual([1, 2, expect.stringContaining('DEADLINE_EXCEEDED')]);
  });

  it('is dropped item by item in a shadow, which ends with it', async () => {
    await start();
    await engine.deployments.create('shadow', { handler, replicas: 1 });
    await engine.endpoints.set('both', { traffic: { app: 1 }, shadow: { shadow: 1 } });
    const stream = engine.stream('both', { as: 'generator', count: 1e12 });
    await stream.next();
    await until(() => engine.deployments.get('shadow').ongoing === 1);
    await stream.return?.();
    await until(() => engine.deployments.get('shadow').ongoing === 0);
  });

  it('ends its shadow with its last item, and a shadow that goes on does not hold up what closes the engine', async () => {
    await start();
    await engine.deployments.create('shadow', { handler, replicas: 1 });
    await engine.endpoints.set('both', { traffic: { app: 1 }, shadow: { shadow: 1 } });
    const request = { as: 'short, but endless in a shadow' };
    expect(await collect(engine.stream('both', request))).toEqual([0, 1, 2]);
    await until(() => engine.deployments.get('shadow').ongoing === 0);
    expect(await ask(request, 'both')).toEqual([0, 1, 2]);
    await until(() => engine.deployments.get('shadow').ongoing === 1);
    const before = performance.now();
    await engine.close();
    expect(performance.now() - before).toBeLessThan(5_000);
  });

  it('goes elsewhere when its replica dies before the first item, and fails after that', async () => {
    await start();
    const begun = await collect(engine.stream('app', { as: 'generator', count: 9, exitAt: 3, waitMs: 2 }));
    expect(begun.slice(0, 3)).toEqual([0, 1, 2]);
    expect(begun[3]).toContain('REPLICA_FAILED');
    expect(begun[3]).toContain('the stream had begun');
    expect(engine.status().replicas.find(({ deployment }) => deployment === 'app')?.restarts).toBe(1);
    const neighbour = collect(engine.stream('app', { as: 'generator', count: 3, waitMs: 300 }));
    await until(() => ongoing() === 1);
    void collect(engine.stream('app', { as: 'generator', count: 1, exitAt: 0 }));
    expect(await neighbour).toEqual([0, 1, 2]);
  });

  it.each([
    ['app', { as: 'list' }, 'FAILED_PRECONDITION: the handler returned [ 1, 2, 3 ], and no stream of items'],
    ['batches', 1, 'FAILED_PRECONDITION: the handler answers in batches, and no stream of items'],
    ['times-1', {}, 'FAILED_PRECONDITION: deployment "default" has no replicas'],
    ['none', {}, 'MODEL_NOT_FOUND'],
    ['app', () => undefined, 'INVALID_ARGUMENT: the request cannot be cloned'],
  ])('is refused where there is none: %s, %o', async (target, request, message) => {
    await start();
    expect(await collect(engine.stream(target, request))).toEqual([expect.stringContaining(message)]);
  });

  it('is refused by options that are none, and by a closed engine', async () => {
    await start();
    const options = { timeOutMs: 1 } as object;
    expect(await collect(engine.stream('app', {}, options))).toEqual([expect.stringContaining('timeOutMs')]);
    await engine.close();
    expect(await collect(engine.stream('app', {}))).toEqual([expect.stringContaining('ENGINE_CLOSED')]);
  });

  it('is read to its end when the engine closes, and ends when it is destroyed', async () => {
    await start();
    const whole = collect(engine.stream('app', { as: 'generator', count: 20, waitMs: 2 }));
    await until(() => ongoing() === 1);
    await engine.close();
    expect(await whole).toHaveLength(20);
    await start();
    const endless = collect(engine.stream('app', { as: 'generator', count: 1e9, waitMs: 1 }));
    await until(() => ongoing() === 1);
    await engine.destroy();
    expect((await endless).at(-1)).toContain('ENGINE_CLOSED');
  });
});
