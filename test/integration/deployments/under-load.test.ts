import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { ids, replicasIn, row, single, startDeployments } from '../../support/engines/deployments-engine.js';
import { SteadyLoad } from '../../support/steady-load.js';
import { until } from '../../support/until.js';

process.env['CRASH_MARKERS'] = mkdtempSync(join(tmpdir(), 'infermux-deployments-'));
const crashingWorker = new URL('../../support/crashing-worker.mjs', import.meta.url);

let engine: InferenceEngine;
let logged: string[];
const { replicasOf, idsOf } = replicasIn(() => engine);

async function start(options?: EngineOptions, worker?: URL): Promise<void> {
  ({ engine, logged } = await startDeployments(options, worker));
}

afterEach(() => engine?.destroy());

async function under<T>(targets: readonly string[], work: (load: SteadyLoad) => Promise<T>): Promise<T> {
  const load = new SteadyLoad(() => engine, targets);
  await until(() => load.answered > 50);
  const result = await work(load);
  const before = load.answered;
  await until(() => load.answered > before + 50);
  expect(await load.stop()).toEqual([]);
  return result;
}

describe('under steady load, with no request lost', () => {
  it('a deployment scales from 1 to 4 and back', async () => {
    await start();
    await under(ids, async () => {
      for (const replicas of [4, 1]) {
        const goal = await engine.deployments.update('default', { replicas });
        expect(await goal.done).toBe('reached');
        expect(engine.deployments.get('default')).toMatchObject({ state: 'healthy', ready: true });
        expect(replicasOf('default').map(({ state }) => state)).toEqual(Array(replicas).fill('running'));
      }
    });
  });

  it('it follows the requests by itself', async () => {
    const autoscaling = {
      ...{ minReplicas: 1, maxReplicas: 4, targetOngoingRequests: 2 },
      ...{ upscaleDelayMs: 0, downscaleDelayMs: 0, lookBackMs: 1 },
    };
    await start({ autoscaling });
    await under(ids, () => until(() => engine.deployments.get('default').runningReplicas === 4));
    await until(() => engine.status().replicas.filter(({ express }) => !express).length === 1);
    expect(logged.filter((line) => line.startsWith('more replicas than this machine can carry'))).not.toEqual([]);
  });

  it('another configuration is rolled out, a new replica before an old one goes', async () => {
    await start({ replicas: 3 });
    const before = idsOf('default');
    let fewest = 3;
    let most = 3;
    const look = setInterval(() => {
      fewest = Math.min(fewest, engine.deployments.get('default').runningReplicas);
      most = Math.max(most, replicasOf('default').length);
    }, 1);
    await under(ids, async () => {
      const goal = await engine.deployments.update('default', { session: { graphOptimizationLevel: 'basic' } });
      expect(engine.deployments.get('default').state).toBe('updating');
      expect(await goal.done).toBe('reached');
    });
    clearInterval(look);
    expect(idsOf('default')).not.toEqual(before);
    expect({ fewest, most }).toEqual({ fewest: 3, most: 4 });
  });

  it('limits, batching and time-outs are changed without another replica', async () => {
    await start({ replicas: 2 });
    await under(ids, async () => {
      const goal = await engine.deployments.update('default', {
        ...{ batching: false, maxOngoingRequests: 1, maxQueuedRequests: 100, gracefulShutdownTimeoutMs: 5_000 },
      });
      expect(await goal.done).toBe('reached');
      const results = await Promise.all(
        Array.from({ length: 40 }, () => engine.infer({ target: 'times-1', feeds: row() })),
      );
      expect(Math.max(...results.map(({ batchSize }) => batchSize))).toBe(1);
    });
    expect(engine.status().replicas.map(({ id, restarts }) => [id, restarts])).toEqual([
      ['default-0', 0],
      ['default-1', 0],
    ]);
  });

  it('another deployment is deleted with its work in flight, and answers all of it', async () => {
    await start();
    await (await engine.deployments.create('other', { replicas: 2 })).done;
    await under(ids, async () => {
      const inFlight = Array.from({ length: 30 }, () => codeOf(engine.run('other/slow', single)));
      await until(() => engine.deployments.get('other').ongoing > 0);
      const deleted = await engine.deployments.delete('other');
      expect(await codeOf(engine.run('other/slow', single))).toBe('FAILED_PRECONDITION');
      expect(engine.deployments.get('other').state).toBe('deleting');
      expect(new Set(await Promise.all(inFlight))).toEqual(new Set(['answered']));
      expect(await deleted.done).toBe('reached');
      expect(engine.deployments.list().map(({ name }) => name)).toEqual(['default']);
      expect(engine.status().replicas).toHaveLength(1);
    });
  });

  it('replicas crash one after the other', async () => {
    await start({ replicas: 3 }, crashingWorker);
    await under(ids, async () => {
      for (let crash = 1; crash <= 6; crash += 1) {
        const answer = await engine.run('times-2', row(-1, 100 + crash));
        expect(answer['y']?.data[0]).toBe(-2);
      }
    });
    await until(() => engine.deployments.get('default').runningReplicas === 3);
    expect(engine.deployments.get('default')).toMatchObject({ state: 'healthy', ready: true });
    expect(engine.deployments.get('default').lastFailure).toContain('thrown in the worker');
  });
});
