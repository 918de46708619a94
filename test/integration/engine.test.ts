import { getEventListeners } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { pino } from 'pino';
import { Registry } from 'prom-client';
import { afterEach, describe, expect, it } from 'vitest';
import {
  createEngine,
  type EngineOptions,
  type InferenceEngine,
  type InfermuxError,
  type Tensor,
} from '../../dist/index.js';
import {
  modelDirectory,
  pickyModel,
  scaleModel,
  slowLoadModel,
  slowRunModel,
  throughModel,
} from '../support/onnx-models.js';
import { until } from '../support/until.js';

const ids = Array.from({ length: 6 }, (_, index) => `times-${index + 1}`);
const directory = modelDirectory({
  ...Object.fromEntries(ids.map((id, index) => [id, scaleModel(index + 1)])),
  picky: pickyModel(),
  through: throughModel(),
  'slow-run': slowRunModel(40),
  'slow-load': slowLoadModel(8),
});

let engine: InferenceEngine;
const start = async (options: EngineOptions = {}) => {
  engine = await createEngine({ models: directory, replicas: 2, ...options });
  return engine;
};
const row = (...values: number[]) => ({
  x: { dims: [1, 4], data: Float32Array.from({ length: 4 }, (_, i) => values[i] ?? 0) },
});
const LARGE = 50_000;
const single = { x: { dims: [1], data: Float32Array.of(3) } };
const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => 'answered',
    ({ code }: InfermuxError) => code,
  );

afterEach(() => engine?.destroy());

async function sample(name: string, labels: Record<string, string> = {}): Promise<number> {
  const metric = await engine.metrics.getSingleMetric(name)?.get();
  const matching = (metric?.values ?? []).filter((value) =>
    Object.entries(labels).every(([label, wanted]) => value.labels[label] === wanted),
  );
  return matching.reduce((sum, { value }) => sum + value, 0);
}

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

describe('replicas', () => {
  it.runIf(process.platform === 'linux')('go behind the calling thread, which keeps its priority', async () => {
    /** How many threads of this process have which niceness. */
    const threadsByNice = () => {
      const counts = new Map<number, number>();
      for (const thread of readdirSync('/proc/self/task')) {
        try {
          // The name in parentheses may have spaces; niceness is the 17th value behind it.
          const [, values = ''] = readFileSync(`/proc/self/task/${thread}/stat`, 'utf8').split(/\) (?!.*\) )/);
          const nice = Number(values.split(' ')[16]);
          counts.set(nice, (counts.get(nice) ?? 0) + 1);
        } catch {
          // A thread that has ended meanwhile.
        }
      }
      return counts;
    };
    const own = getPriority();
    const behind = Math.min(19, own + 10);
    const before = threadsByNice().get(behind) ?? 0;
    await start();
    expect({ own: getPriority(), behind: (threadsByNice().get(behind) ?? 0) - before }).toEqual({ own, behind: 2 });
  });
});

describe('many models on few replicas', () => {
  it('loads one model once for each replica that needed it when 200 ask for it at once', async () => {
    await start();
    const results = await Promise.all(
      Array.from({ length: 200 }, () => engine.infer({ target: 'slow-load', feeds: single })),
    );
    const used = new Set(results.map(({ replica }) => replica));
    for (const replica of ['default-0', 'default-1']) {
      expect(await sample('infermux_model_loads_total', { replica })).toBe(used.has(replica) ? 1 : 0);
    }
  });

  it('never has more sessions than its bound, and answers rightly while they evict each other', async () => {
    await start({ maxModelsPerReplica: 2 });
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(
        most,
        ...engine.status().replicas.map(({ models }) => models.filter(({ state }) => state === 'loaded').length),
      );
    }, 1);
    const answers = await Promise.all(
      Array.from({ length: 600 }, async (_, index) => {
        const factor = (index % ids.length) + 1;
        const { y } = await engine.run(`times-${factor}`, row(index));
        return y?.data[0] === factor * index;
      }),
    );
    clearInterval(watch);
    expect(answers).not.toContain(false);
    expect(most).toBeLessThanOrEqual(2);
    expect(await sample('infermux_model_unloads_total', { reason: 'evicted' })).toBeGreaterThan(0);
  });

  it('lets sessions go that nobody used for the idle time-out', async () => {
    await start({ modelIdleTimeoutMs: 30 });
    await engine.run('times-1', row(1));
    await until(() => engine.status().models.every(({ replicas }) => replicas.length === 0));
    expect(await sample('infermux_model_unloads_total', { reason: 'expired' })).toBe(1);
    await engine.run('times-1', row(1));
  });

  it('refuses a model that is larger than the bytes it may have', async () => {
    await start({ maxModelBytesPerReplica: 10 });
    await expect(engine.run('times-1', row(1))).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED' });
  });
});

describe('execution providers', () => {
  it.each([
    ['nonsense', '"nonsense" is not available; available here: cpu'],
    [{ name: 'coreml' }, '"coreml" is not available; available here: cpu'],
    ['cuda', 'execution providers asked for: cuda; available here: cpu'],
  ])('%j fails the load, naming it and what is available', async (provider, message) => {
    await start({ session: { executionProviders: [provider] } });
    const call = engine.run('times-1', row(1));
    await expect(call).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED', message: expect.stringContaining(message) });
  });

  it('and other session options reach onnxruntime', async () => {
    await start({ session: { executionProviders: ['cpu'], graphOptimizationLevel: 'disabled', intraOpNumThreads: 2 } });
    await engine.run('times-1', row(1));
    await engine.destroy();
    await start({ session: { executionMode: 'sideways' as never } });
    await expect(engine.run('times-1', row(1))).rejects.toMatchObject({ code: 'MODEL_LOAD_FAILED' });
  });
});

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

describe('what can be seen', () => {
  it('status tells of deployments, replicas and models', async () => {
    await start();
    await engine.run('times-1', row(1));
    const { deployments, replicas, models } = engine.status();
    expect(deployments).toEqual({
      default: {
        state: 'healthy',
        ready: true,
        targetReplicas: 2,
        runningReplicas: 2,
        queued: 0,
        lastFailure: undefined,
      },
    });
    expect(replicas).toContainEqual(
      expect.objectContaining({
        state: 'running',
        completed: 1,
        models: [{ id: 'times-1', version: 1, state: 'loaded' }],
        modelBytes: models.find(({ id }) => id === 'times-1')?.bytes,
      }),
    );
    expect(models.find(({ id }) => id === 'times-1')?.replicas).toHaveLength(1);
  });

  it('metrics count requests, errors, loads and replicas', async () => {
    await start();
    await engine.run('times-1', row(1));
    await engine.run('times-1', row(1));
    await codeOf(engine.run('times-1', {}));
    expect(await sample('infermux_router_requests_total', { model: 'times-1' })).toBe(2);
    expect(await sample('infermux_request_errors_total', { code: 'INVALID_ARGUMENT' })).toBe(1);
    expect(await sample('infermux_get_model_requests_total')).toBe(2);
    expect(await sample('infermux_model_loads_total', { model: 'times-1' })).toBe(1);
    expect(await sample('infermux_replica_up')).toBe(2);
    expect(await sample('infermux_registered_model_id', { model: 'times-1' })).toBe(1);
    expect(await engine.metrics.metrics()).toContain(
      'infermux_run_duration_seconds_bucket{le="0.0001",model="times-1"}',
    );
  });

  it("metrics go to the caller's registry, one engine at a time, and without model labels on request", async () => {
    const registry = new Registry();
    await start({ registry, metrics: { modelLabels: false } });
    await engine.run('times-1', row(1));
    expect(await registry.metrics()).not.toContain('times-1');
    const second = createEngine({ registry, replicas: 1 });
    await expect(second).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    await engine.close();
    expect(registry.getMetricsAsArray()).toEqual([]);
    const third = await createEngine({ registry, replicas: 1 });
    await engine.destroy();
    expect(registry.getMetricsAsArray().length).toBeGreaterThan(10);
    await third.close();
  });

  it('logs tell the life of replicas and models', async () => {
    const lines: { msg: string; model?: string; state?: string; reason?: string }[] = [];
    await start({
      maxModelsPerReplica: 1,
      replicas: 1,
      logger: pino({ level: 'debug' }, { write: (line) => lines.push(JSON.parse(line)) }),
    });
    await engine.run('times-1', row(1));
    await engine.run('times-2', row(1));
    await engine.close();
    const told = lines.map(({ msg, model, state, reason }) => [msg, model ?? state, reason].filter(Boolean).join(' '));
    expect(told).toEqual([
      'replica changed state running',
      'model is loading times-1',
      'model loaded times-1',
      'model unloaded times-1 evicted',
      'model is loading times-2',
      'model loaded times-2',
      'replica changed state draining',
      'model unloaded times-2 shutdown',
      'replica changed state stopped',
    ]);
  });

  it('a logger that throws costs nothing but one warning', async () => {
    const fail = () => {
      throw new Error('disk full');
    };
    const warnings: string[] = [];
    const note = ({ message }: Error) => warnings.push(message);
    process.on('warning', note);
    await start({ logger: { debug: fail, info: fail, warn: fail, error: fail } as never });
    expect(await codeOf(engine.run('times-1', row(1)))).toBe('answered');
    await engine.close();
    process.off('warning', note);
    expect(warnings).toEqual(['infermux: options.logger failed: disk full']);
  });
});
