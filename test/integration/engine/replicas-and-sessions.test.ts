import { readdirSync, readFileSync } from 'node:fs';
import { getPriority } from 'node:os';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { ids, row, sampleOf, single, startSmall } from '../../support/engines/small-engine.js';
import { areThreads } from '../../support/isolation.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const sample = (name: string, labels?: Record<string, string>) => sampleOf(engine, name, labels);

async function start(options?: EngineOptions): Promise<void> {
  engine = await startSmall(options);
}

afterEach(() => engine?.destroy());

describe('replicas', () => {
  // The first replica of a process loads onnxruntime, which starts a thread of its own that outlives the replica.
  beforeAll(async () => {
    await start();
    await engine.destroy();
  });

  it.runIf(areThreads && process.platform === 'linux')(
    'go behind the calling thread, which keeps its priority',
    async () => {
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
    },
  );
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
