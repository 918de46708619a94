import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { code, questionsTo, startModels } from '../../support/engines/models-engine.js';
import { denseModel, oddOutputsModel, pickyModel, scaleModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const { ask } = questionsTo(() => engine);

async function start(models: EngineOptions['models'], options?: EngineOptions): Promise<void> {
  ({ engine } = await startModels(models, { replicas: 1, ...options }));
}

afterEach(() => engine?.destroy());

const loaded = () =>
  engine
    .status()
    .replicas.flatMap(({ models }) => models.map(({ id }) => id))
    .sort();

describe('a load that fails', () => {
  const sources = {
    a: scaleModel(2),
    b: scaleModel(3),
    big: denseModel(600, 1),
    junk: Buffer.alloc(4_000, 'junk'),
    // onnxruntime loads it, and then it shows that no output can be returned.
    odd: oddOutputsModel(['sequence'], false),
    // A graph that onnxruntime alone can refuse: its node is none.
    wrong: Buffer.from(Buffer.from(pickyModel()).toString('latin1').replaceAll('MatMul', 'MatMux'), 'latin1'),
  };

  it.each(['junk', 'odd', 'wrong'])('costs nobody a session where the bound is one of count (%s)', async (id) => {
    await start(sources, { maxModelsPerReplica: 2 });
    for (const other of ['a', 'b']) await ask(other);
    expect(await code(ask(id))).toBe('MODEL_LOAD_FAILED');
    expect(loaded()).toEqual(['a', 'b']);
    expect(await Promise.all(['a', 'b'].map(ask))).toEqual([2, 3]);
    const { values } = (await engine.metrics.getSingleMetric('infermux_model_unloads_total')?.get()) ?? { values: [] };
    expect(values.reduce((sum, { value }) => sum + value, 0)).toBe(0);
  });

  it.each(['junk', 'odd'])('nor where it is one of bytes, if the file shows it (%s)', async (id) => {
    const bytes = sources.big.byteLength + 1_000;
    await start(sources, { maxModelsPerReplica: -1, maxModelBytesPerReplica: bytes });
    for (const other of ['a', 'big']) await engine.models.load(other);
    // A model that is no larger than all that there may be.
    expect(engine.models.size(id)).toBeLessThan(bytes);
    await expect(ask(id)).rejects.toThrow(id === 'junk' ? /not an ONNX model/ : /no output that can be returned/);
    expect(loaded()).toEqual(['a', 'big']);
  });
});

describe('repository.retries', () => {
  it('lets a request wait for another try at the load, as often as it says', async () => {
    const root = directory({ 'a.onnx': 'not yet' });
    await start(root, { repository: { retries: 2, settleMs: 0 } });
    const answer = ask('a');
    await until(() => engine.models.get('a').replicas[0]?.state === 'failed');
    writeFileSync(join(root, 'a.onnx'), scaleModel(2));
    expect(await answer).toBe(2);
  });

  it('ends with the failure, or when the caller gives up', async () => {
    await start({ a: Uint8Array.of(1, 2, 3) }, { repository: { retries: 1 } });
    const failures = async () =>
      Number((await engine.metrics.metrics()).match(/infermux_load_model_exceptions_total\{[^}]*\} (\d+)/)?.[1]);
    const controller = new AbortController();
    const given = code(engine.run('a', {}, { signal: controller.signal }));
    expect(await code(ask('a'))).toBe('MODEL_LOAD_FAILED');
    expect(await failures()).toBe(2);
    controller.abort();
    expect(['CANCELLED', 'MODEL_LOAD_FAILED']).toContain(await given);
    expect(await code(engine.run('a', {}, { timeoutMs: 50 }))).toBe('DEADLINE_EXCEEDED');
  });

  it('counts those that wait in the limit of the queue, and ends them when the engine closes', async () => {
    await start({ a: Uint8Array.of(1, 2, 3) }, { repository: { retries: 9 }, maxQueuedRequests: 3 });
    const first = code(ask('a'));
    // The state may be seen before the answer: until that is there, the request waits for no other try.
    await until(() => engine.models.get('a').replicas[0]?.state === 'failed' && engine.status().queued === 1);
    const others = Array.from({ length: 50 }, () => code(ask('a')));
    await until(() => engine.status().queued >= 3);
    await engine.close();
    const outcomes = await Promise.all([first, ...others]);
    // One more than the limit may have been on its way to the replica.
    expect(outcomes.filter((outcome) => outcome === 'QUEUE_FULL').length).toBeGreaterThanOrEqual(47);
    expect(outcomes.filter((outcome) => outcome === 'MODEL_LOAD_FAILED').length).toBeGreaterThanOrEqual(3);
  });

  it('ends them when the model is not served any more', async () => {
    await start(undefined, { repository: { retries: 9 } });
    await engine.models.register('a', Uint8Array.of(1, 2, 3), { verify: false });
    const waiting = code(ask('a'));
    await until(() => engine.models.get('a').replicas[0]?.state === 'failed');
    await engine.models.unregister('a');
    expect(await waiting).toBe('MODEL_LOAD_FAILED');
  });

  it('is for the loads at the start, too', async () => {
    const root = directory({ 'a.onnx': 'not yet' });
    const source = join(directory({ 'good.onnx': scaleModel(2) }), 'good.onnx');
    const started = start(root, { repository: { retries: 3, loadOnStart: true, settleMs: 0 } });
    setTimeout(() => copyFileSync(source, join(root, 'a.onnx')), 300);
    await started;
    expect(await ask('a')).toBe(2);
  });

  it('loadOnStart also loads what a later look finds', async () => {
    const root = directory();
    await start(root, { repository: { loadOnStart: true, settleMs: 0, pollMs: 20 } });
    writeFileSync(join(root, 'a.onnx'), scaleModel(2));
    await until(() => loaded().includes('a'));
  });

  it.each([-1, 0.5, '1'])('%s is refused', async (retries) => {
    await expect(start({}, { repository: { retries: retries as number } })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('options.repository.retries'),
    });
  });
});
