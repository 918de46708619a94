import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import type { DeploymentOptions, InferenceEngine, RunOptions } from '../../../dist/index.js';
import { outcome, requestsTo, startHandler } from '../../support/engines/handlers-engine.js';
import { until } from '../../support/until.js';

const handler = new URL('../../support/concurrent-handler.mjs', import.meta.url);
let engine: InferenceEngine;
const ask = requestsTo(() => engine);

async function start(options: DeploymentOptions = {}): Promise<void> {
  engine = await startHandler({ handler, ...options });
}

/** Most requests that were under way at once in a thread: each thread has an element of its own. */
const countsOfThreads = () => new Int32Array(new SharedArrayBuffer(4 * 4_096));
const most = (counts: Int32Array) => counts.reduce((highest, count) => Math.max(highest, count), 0);
const ongoing = () => engine.deployments.get('app').ongoing;

afterEach(() => engine?.destroy());

describe('the requests of a handler', () => {
  it.each([
    [5, {}],
    [3, { maxOngoingRequests: 3 }],
    [1, { maxOngoingRequests: 1 }],
    [40, { maxOngoingRequests: -1 }],
  ])('are under way together, up to %i of them with %o', async (expected, options) => {
    await start(options);
    const answers = Array.from({ length: 40 }, () => ask<number>({ do: 'most', ms: 20 }));
    expect(Math.max(...(await Promise.all(answers)))).toBe(expected);
  });

  it('are given by a new bound at once', async () => {
    await start({ maxOngoingRequests: 1 });
    await (await engine.deployments.update('app', { maxOngoingRequests: 4 })).done;
    const answers = Array.from({ length: 20 }, () => ask<number>({ do: 'most', ms: 10 }));
    expect(Math.max(...(await Promise.all(answers)))).toBe(4);
  });

  it('pass one that waits for something else', async () => {
    await start();
    const stuck = outcome(ask({ do: 'never' }, 'app', { timeoutMs: 2_000 }));
    for (let x = 0; x < 200; x += 1) expect(await ask({ do: 'echo', x })).toBe(x);
    expect(ongoing()).toBe(1);
    expect(await stuck).toContain('DEADLINE_EXCEEDED');
  });

  it('go to the replica with the fewest', async () => {
    await start({ replicas: 2 });
    for (let count = 0; count < 6; count += 1) void ask({ do: 'never' }).catch(() => undefined);
    await until(() => ongoing() === 6);
    expect(engine.status().replicas.map((replica) => replica.ongoing)).toEqual([3, 3]);
  });

  it('go where there is room, whatever models they name', async () => {
    await start({ replicas: 2, maxOngoingRequests: 2 });
    // Both replicas are warm for one model each, and have one request that does not end.
    for (const model of ['times-1', 'times-2']) void ask({ do: 'never' }, `app/${model}`).catch(() => undefined);
    await until(() => ongoing() === 2);
    const answers = ['times-3', 'times-1', 'times-2'].map((model) => ask({ do: 'run', model, x: 2 }, `app/${model}`));
    expect(await Promise.all(answers)).toEqual([6, 2, 4]);
  });

  it('have a context of their own', async () => {
    await start();
    const controller = new AbortController();
    const cancelled = outcome(ask({ do: 'never' }, 'app', { signal: controller.signal }));
    const named = ask({ do: 'signal' }, 'app/times-1');
    controller.abort();
    expect(await cancelled).toContain('CANCELLED');
    expect(await named).toEqual([false, 'times-1', 'app-0']);
    expect(await ask({ do: 'signal' })).toEqual([false, undefined, 'app-0']);
  });

  it('are answered each alone, when their models run as one call', async () => {
    await start({ maxOngoingRequests: 32 });
    for (let round = 0; round < 20; round += 1) {
      const xs = Array.from({ length: 64 }, (_, x) => x);
      const answers = xs.map((x) => ask({ do: 'run', model: `times-${1 + (x % 3)}`, x }));
      expect(await Promise.all(answers)).toEqual(xs.map((x) => x * (1 + (x % 3))));
    }
  });

  it('run once more, each alone, when one of them ended the thread', async () => {
    await start();
    const deadly = outcome(ask({ do: 'exit', ms: 5 }));
    const others = Array.from({ length: 4 }, (_, x) => ask({ do: 'run', model: 'times-2', x, ms: 50 }));
    expect(await deadly).toContain('REPLICA_FAILED');
    expect(await Promise.all(others)).toEqual([0, 2, 4, 6]);
    expect(engine.status().replicas[0]?.restarts).toBe(2);
  });

  it('are finished by a replica that leaves', async () => {
    await start({ replicas: 2 });
    const answers = Array.from({ length: 10 }, (_, x) => ask({ do: 'run', model: 'times-2', x, ms: 100 }));
    await until(() => ongoing() === 10);
    await (await engine.deployments.update('app', { replicas: 1 })).done;
    expect(await Promise.all(answers)).toEqual(Array.from({ length: 10 }, (_, x) => 2 * x));
    expect(engine.status().replicas.map(({ restarts }) => restarts)).toEqual([0]);
  });

  it('scale a deployment by how many there are', async () => {
    await start({ autoscaling: { minReplicas: 1, maxReplicas: 3, targetOngoingRequests: 2, upscaleDelayMs: 0 } });
    for (let count = 0; count < 6; count += 1) void ask({ do: 'never' }).catch(() => undefined);
    await until(() => engine.status().replicas.length === 3);
  });

  it('are answered once and rightly, whatever happens to them, and no more are under way than may be', async () => {
    const action = fc.oneof(
      { weight: 6, arbitrary: fc.record({ do: fc.constant('run'), ms: fc.nat(8), model: fc.nat(2) }) },
      { weight: 3, arbitrary: fc.record({ do: fc.constant('echo') }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('throw'), ms: fc.nat(8) }) },
      { weight: 2, arbitrary: fc.record({ do: fc.constant('never') }) },
      { weight: 1, arbitrary: fc.record({ do: fc.constant('exit'), ms: fc.nat(8) }) },
    );
    const terms = fc.record({ timeoutMs: fc.option(fc.nat(30)), cancelMs: fc.option(fc.nat(30)), priority: fc.nat(2) });
    const request = fc.tuple(action, terms);
    const change = fc.constantFrom('replicas', 'restart', undefined, undefined);
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 1, maxLength: 40 }), fc.integer({ min: 1, max: 6 }), change, run),
      { numRuns: 12, interruptAfterTimeLimit: 40_000 },
    );

    async function run(
      requests: readonly [
        { do: string; model?: number },
        { timeoutMs: number | null; cancelMs: number | null; priority: number },
      ][],
      maxOngoingRequests: number,
      changed: string | undefined,
    ): Promise<void> {
      await start({ replicas: 2, maxOngoingRequests });
      const counts = countsOfThreads();
      let settled = 0;
      const answers = requests.map(async ([{ do: what, model = 0, ...rest }, { timeoutMs, cancelMs, priority }], x) => {
        const controller = new AbortController();
        if (cancelMs !== null) setTimeout(() => controller.abort(), cancelMs);
        // What never ends by itself must have an end.
        const limitMs = timeoutMs ?? (what === 'never' ? 40 : undefined);
        const options: RunOptions = {
          signal: controller.signal,
          priority,
          ...(limitMs !== undefined && { timeoutMs: limitMs }),
        };
        const sent = { ...rest, do: what, x, model: `times-${1 + model}`, counts };
        const answer = await outcome(ask(sent, 'app', options));
        settled += 1;
        const ends = [
          ...(limitMs === undefined ? [] : ['DEADLINE_EXCEEDED']),
          ...(cancelMs === null ? [] : ['CANCELLED']),
          ...(what === 'exit' ? ['REPLICA_FAILED'] : []),
        ];
        if (typeof answer === 'string') {
          if (what === 'throw' && answer === `INFERENCE_FAILED: the handler failed: as asked by ${x}`) return;
          expect(ends).toContain(answer.split(':')[0]);
        } else expect(answer).toBe(what === 'run' ? x * (1 + model) : x);
      });
      if (changed === 'replicas') await (await engine.deployments.update('app', { replicas: 1 })).done;
      if (changed === 'restart') await (await engine.deployments.update('app', { labels: { a: 'b' } })).done;
      await Promise.all(answers);
      expect(settled).toBe(requests.length);
      expect(most(counts)).toBeLessThanOrEqual(maxOngoingRequests);
      await until(() => ongoing() === 0);
      await engine.close();
    }
  }, 90_000);
});
