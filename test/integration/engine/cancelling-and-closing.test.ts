import { getEventListeners } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { ids, row, single, startSmall } from '../../support/engines/small-engine.js';

let engine: InferenceEngine;

async function start(options?: EngineOptions): Promise<void> {
  engine = await startSmall(options);
}

afterEach(() => engine?.destroy());

describe('cancel and deadline', () => {
  it('reject at once while the run goes on, and leave nothing on a signal that many share', async () => {
    await start({ replicas: 1 });
    await engine.run('slow-run', single);
    const controller = new AbortController();
    const calls = Array.from({ length: 30 }, () => engine.run('slow-run', single, { signal: controller.signal }));
    const late = codeOf(engine.run('slow-run', single, { timeoutMs: 5 }));
    controller.abort(new Error('changed my mind'));
    for (const call of calls) {
      await expect(call).rejects.toMatchObject({ code: 'CANCELLED', cause: controller.signal.reason });
    }
    expect(getEventListeners(controller.signal, 'abort')).toEqual([]);
    expect(await late).toBe('DEADLINE_EXCEEDED');
    expect(engine.status().queued).toBe(0);
    expect(await codeOf(engine.run('slow-run', single))).toBe('answered');
  });

  it('end thousands of requests that share a signal, turn by turn, and the others go on', async () => {
    await start({ replicas: 1, maxQueuedRequests: -1 });
    await engine.run('slow-run', single);
    const controller = new AbortController();
    let told = 0;
    const calls = Array.from({ length: 3_000 }, () =>
      codeOf(engine.run('slow-run', single, { signal: controller.signal })).finally(() => (told += 1)),
    );
    const other = codeOf(engine.run('slow-run', single));
    expect(getEventListeners(controller.signal, 'abort')).toHaveLength(1);
    controller.abort();
    await new Promise((resolve) => setImmediate(resolve));
    expect(told).toBeGreaterThan(0);
    expect(told).toBeLessThan(calls.length);
    // Those that are not told yet are told before the engine is closed.
    await engine.close();
    expect(told).toBe(calls.length);
    expect(new Set(await Promise.all(calls))).toEqual(new Set(['CANCELLED']));
    expect(await other).toBe('answered');
  });

  it('count from defaultTimeoutMs where a request names no time', async () => {
    await start({ defaultTimeoutMs: 1 });
    expect(await codeOf(engine.run('slow-load', single))).toBe('DEADLINE_EXCEEDED');
    expect(await codeOf(engine.run('slow-load', single, { timeoutMs: 20_000 }))).toBe('answered');
    expect(await codeOf(engine.run('slow-load', single, { deadline: Date.now() - 1 }))).toBe('DEADLINE_EXCEEDED');
  });
});

describe('closing', () => {
  it('finishes accepted work, refuses new work, and may be called again', async () => {
    await start();
    const answers = Array.from({ length: 40 }, (_, index) => codeOf(engine.run(ids[index % 6] as string, row(1))));
    const closed = engine.close();
    expect(await codeOf(engine.run('times-1', row(1)))).toBe('ENGINE_CLOSED');
    await Promise.all([closed, engine.close(), engine[Symbol.asyncDispose]()]);
    expect(new Set(await Promise.all(answers))).toEqual(new Set(['answered']));
    expect(engine.status()).toMatchObject({ state: 'closed', replicas: [] });
    await engine.destroy();
    expect(engine.status().state).toBe('closed');
  });

  it('tells every caller before destroy() is over', async () => {
    await start({ maxQueuedRequests: -1 });
    let told = 0;
    for (let call = 0; call < 3_000; call += 1) {
      codeOf(engine.run(ids[call % 6] as string, row(1))).finally(() => (told += 1));
    }
    await engine.destroy();
    expect(told).toBe(3_000);
  });

  it('rejects what is not answered within the grace', async () => {
    await start({ replicas: 1 });
    const answers = [1, 2, 3].map(() => codeOf(engine.run('slow-run', single)));
    await engine.close({ graceMs: 1 });
    expect(await Promise.all(answers)).toEqual(Array(3).fill('ENGINE_CLOSED'));
  });

  it('goes on after a close with a grace that is none', async () => {
    await start();
    await expect(engine.close({ graceMs: Number.NaN })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await codeOf(engine.run('times-1', row(1)))).toBe('answered');
  });

  it('rejects everything at once when destroyed, also during a close', async () => {
    await start();
    const answers = Array.from({ length: 8 }, () => codeOf(engine.run('slow-run', single)));
    const closed = engine.close();
    await engine.destroy();
    await closed;
    expect(new Set(await Promise.all(answers))).toEqual(new Set(['ENGINE_CLOSED']));
  });
});
