import { afterEach, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { replicasIn, row, single, startDeployments } from '../../support/engines/deployments-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const { replicasOf, idsOf } = replicasIn(() => engine);

async function start(options?: EngineOptions): Promise<void> {
  ({ engine } = await startDeployments(options));
}

afterEach(() => engine?.destroy());

it('a model is loaded in the deployment that has replicas, where none is named', async () => {
  await start({ replicas: 0, deployments: { other: { replicas: 2 } } });
  const { replicas } = await engine.models.load('times-1', { replicas: 'all' });
  expect(replicas.map(({ replica, state }) => [replica, state])).toEqual([
    ['other-0', 'loaded'],
    ['other-1', 'loaded'],
  ]);
  expect((await engine.models.retrieve('times-2')).replicas.some(({ state }) => state === 'loaded')).toBe(true);
  const empty = engine.models.load('times-1', { deployment: 'default' });
  await expect(empty).rejects.toMatchObject({
    code: 'FAILED_PRECONDITION',
    message: expect.stringContaining('has no replicas now'),
  });
});

it('each deployment has a queue, limits and metrics of its own', async () => {
  await start({ deployments: { tight: { maxQueuedRequests: 1 } } });
  const calls = Array.from({ length: 6 }, () => codeOf(engine.run('tight/slow', single)));
  const answers = await Promise.all(calls);
  expect(answers).toContain('QUEUE_FULL');
  const { deployment } = await engine.infer({ target: 'times-1', feeds: row(), deployment: 'tight' });
  expect(deployment).toBe('tight');
  const text = await engine.metrics.metrics();
  const refused = answers.filter((answer) => answer !== 'answered').length;
  expect(text).toContain(`infermux_deployment_errors_total{deployment="tight"} ${refused}`);
  expect(text).toContain('infermux_deployment_running_replicas{deployment="tight"} 1');
  expect(text).toContain('infermux_queued_requests{deployment="default"} 0');
  expect(text).not.toContain('infermux_deployment_errors_total{deployment="default"}');
});

it('a pin goes with its deployment', async () => {
  await start({ deployments: { other: {} } });
  await engine.models.load('times-3', { deployment: 'other', pin: true });
  expect(engine.models.get('times-3').isPinned).toBe(true);
  await (await engine.deployments.delete('other')).done;
  expect(engine.models.get('times-3').isPinned).toBe(false);
});

it('a pin moves with the replicas, and keeps its number', async () => {
  await start({ replicas: 2 });
  await engine.models.load('times-3', { replicas: 1, pin: true });
  const holders = () => engine.models.get('times-3').replicas.filter(({ state }) => state === 'loaded');
  expect(holders()).toHaveLength(1);
  await (await engine.deployments.update('default', { maxModelsPerReplica: 2 })).done;
  await until(() => holders().length === 1);
  expect(idsOf('default')).toContain(holders()[0]?.replica);
});

it('deployments declared with different providers stand side by side, each with its devices', async () => {
  // There is no such provider here: sessions are made of it only when a model is loaded.
  const session = { executionProviders: ['nowhere', 'cpu'] };
  await start({ deployments: { gpu: { session, devices: [0, 1], replicas: 4, labels: { kind: 'gpu' } } } });
  const labels = replicasOf('gpu').map((replica) => replica.labels);
  expect(labels.map(({ device }) => device).sort()).toEqual(['0', '0', '1', '1']);
  expect(labels.every(({ kind }) => kind === 'gpu')).toBe(true);
  expect(await codeOf(engine.run('gpu/times-1', row()))).toBe('MODEL_LOAD_FAILED');
  expect(await codeOf(engine.run('times-1', row()))).toBe('answered');
});
