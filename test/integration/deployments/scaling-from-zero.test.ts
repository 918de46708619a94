import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { row, startDeployments } from '../../support/engines/deployments-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;

async function start(options?: EngineOptions): Promise<void> {
  ({ engine } = await startDeployments(options));
}

afterEach(() => engine?.destroy());

it('a deployment without replicas starts one for the first request, and none is left when nothing is asked', async () => {
  const scale = { upscaleDelayMs: 0, downscaleDelayMs: 0, lookBackMs: 1 };
  await start({ replicas: 0, autoscaling: { minReplicas: 0, maxReplicas: 2, ...scale } });
  for (let round = 0; round < 2; round += 1) {
    expect(engine.status().replicas).toEqual([]);
    expect(engine.ready).toBe(true);
    expect(await codeOf(engine.run('times-1', row()))).toBe('answered');
    await until(() => engine.status().replicas.length === 0);
  }
});

it('a deployment that could not start, and has no replicas for want of requests, tries again for the next one', async () => {
  const handler = join(mkdtempSync(join(tmpdir(), 'infermux-deployments-')), 'late.mjs');
  const scale = { upscaleDelayMs: 0, downscaleDelayMs: 0, lookBackMs: 1 };
  await start({ deployments: { late: { handler, autoscaling: { minReplicas: 0, maxReplicas: 1, ...scale } } } });
  expect(await codeOf(engine.run<string>('late', 1))).toBe('REPLICA_FAILED');
  await until(() => engine.deployments.get('late').targetReplicas === 0);
  expect(engine.ready).toBe(false);
  writeFileSync(handler, 'export const handle = () => "there";');
  expect(await engine.run<string>('late', 1)).toBe('there');
  expect(engine.ready).toBe(true);
});

it('a deployment with no place to wait starts its first replica all the same', async () => {
  await start({ deployments: { tight: { maxQueuedRequests: 0, autoscaling: { minReplicas: 0, maxReplicas: 1 } } } });
  expect(await codeOf(engine.run('tight/times-1', row()))).toBe('QUEUE_FULL');
  await until(() => engine.deployments.get('tight').runningReplicas === 1);
  expect(await codeOf(engine.run('tight/times-1', row()))).toBe('answered');
});
