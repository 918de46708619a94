import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine, Tensor } from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { row, startSmall } from '../../support/engines/small-engine.js';

const LARGE = 50_000;

let engine: InferenceEngine;

async function start(options?: EngineOptions): Promise<void> {
  engine = await startSmall(options);
}

afterEach(() => engine?.destroy());

describe('running a model', () => {
  it('answers with outputs of its own, and with how it fared', async () => {
    await start();
    const { outputs, ...circumstances } = await engine.infer({ target: 'times-3', feeds: row(1, 2, 3, 4) });
    expect(outputs).toEqual({ y: { type: 'float32', dims: [1, 4], data: Float32Array.of(3, 6, 9, 12) } });
    expect(circumstances).toMatchObject({ model: 'times-3', version: 1, deployment: 'default', batchSize: 1 });
    const { queueMs, loadMs, runMs, totalMs } = circumstances.timings;
    expect(loadMs).toBeGreaterThan(0);
    expect(totalMs).toBeGreaterThanOrEqual(queueMs + runMs);
    expect((await engine.infer({ target: 'times-3@1', feeds: row(1) })).timings.loadMs).toBe(0);
  });

  it('is not disturbed by what the caller does to its arrays right after', async () => {
    await start();
    const calls = Array.from({ length: 50 }, (_, index) => {
      const feeds = row(index);
      const answer = engine.run('times-2', feeds);
      feeds.x.data.fill(-1);
      return answer.then(({ y }) => y?.data[0]);
    });
    expect(await Promise.all(calls)).toEqual(calls.map((_, index) => 2 * index));
  });

  it('uses the memory of large inputs again, though they are outputs too', async () => {
    await start();
    const wrong: unknown[] = [];
    const call = async (value: number) => {
      const feeds = { x: { dims: [LARGE / 2, 2], data: new Float32Array(LARGE).fill(value) } };
      const { x } = await engine.run('through', feeds);
      const data = (x as Tensor).data as Float32Array;
      const other = data.find((element) => element !== value);
      if (other !== undefined) wrong.push({ value, other });
    };
    const callers = Array.from({ length: 8 }, async (_, caller) => {
      for (let turn = 0; turn < 30; turn += 1) await call(100 * caller + turn);
    });
    await Promise.all(callers);
    expect(wrong).toEqual([]);
  });

  it('takes arrays over on request, and leaves them to a caller that is refused', async () => {
    await start({ maxQueuedRequests: 0, replicas: 1 });
    const [taken, refused] = [row(5), row(6)];
    const answer = engine.run('times-2', taken, { transfer: true });
    expect(await codeOf(engine.run('times-2', refused, { transfer: true }))).toBe('QUEUE_FULL');
    expect({ taken: taken.x.data.length, refused: refused.x.data.length }).toEqual({ taken: 0, refused: 4 });
    expect((await answer)['y']?.data).toEqual(Float32Array.of(10, 0, 0, 0));
  });

  it.each([
    [
      'times-9',
      row(1),
      undefined,
      'MODEL_NOT_FOUND',
      'no model "times-9"; known models: "picky", "slow-load", "slow-run", "through", "times-1"',
    ],
    ['times-1@7', row(1), undefined, 'MODEL_NOT_FOUND', 'versions of "times-1": 1'],
    [7, row(1), undefined, 'INVALID_ARGUMENT', 'model id must be a string'],
    ['', row(1), undefined, 'INVALID_ARGUMENT', 'model id cannot be empty'],
    ['times-1', {}, undefined, 'INVALID_ARGUMENT', 'input "x" is missing'],
    ['times-1', { ...row(1), z: row(1).x }, undefined, 'INVALID_ARGUMENT', 'has no input "z"; expected "x"'],
    [
      'times-1',
      { x: { dims: [2, 2], data: new Float32Array(4) } },
      undefined,
      'INVALID_ARGUMENT',
      'dims [N, 4], got [2, 2]',
    ],
    [
      'times-1',
      { x: { dims: [1, 4], data: new Int32Array(4) } },
      undefined,
      'INVALID_ARGUMENT',
      'must be float32, got int32',
    ],
    ['times-1', row(1), { outputs: ['z'] }, 'INVALID_ARGUMENT', 'has no output "z"; expected "y"'],
    ['times-1', row(1), { timeout: 5 }, 'INVALID_ARGUMENT', 'unknown key "timeout"'],
    ['times-1', row(1), { priority: 0.5 }, 'INVALID_ARGUMENT', 'runOptions.priority must be an integer, got 0.5'],
  ])('refuses %j with %j and %j as %s', async (target, feeds, options, code, message) => {
    await start({ replicas: 1 });
    // Before the model was ever loaded the replica checks; afterwards the calling thread does.
    for (let time = 0; time < 2; time += 1) {
      const call = engine.run(target as string, feeds, options as never);
      await expect(call).rejects.toMatchObject({ code, message: expect.stringContaining(message) });
      await engine.run('times-1', row(1));
    }
  });

  it('rejects what onnxruntime refuses with INFERENCE_FAILED, its error as the cause, and goes on', async () => {
    await start({ replicas: 1 });
    const call = engine.run('picky', { x: { dims: [1, 3], data: new Float32Array(3) } });
    await expect(call).rejects.toMatchObject({
      code: 'INFERENCE_FAILED',
      message: expect.stringContaining('model "picky"'),
    });
    await expect(call).rejects.toHaveProperty('cause.message', expect.stringContaining('MatMul'));
    expect((await engine.run('picky', row(1, 2, 3, 4)))['y']?.data).toEqual(Float32Array.of(1, 2, 3, 4));
  });
});
