import { readdirSync } from 'node:fs';
import { getPriority } from 'node:os';
import type { Worker } from 'node:worker_threads';
import { afterEach, expect, it } from 'vitest';
import type { Deployment } from '../../../dist/deployments/deployment.js';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import type { Replica } from '../../../dist/replicas/replica.js';
import { readFeeds } from '../../../dist/tensors/read-feeds.js';
import { directory, startDeployments } from '../../support/engines/deployments-engine.js';
import { row, sampleOf } from '../../support/engines/small-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
let logged: string[];

const start = async (options?: EngineOptions) => {
  ({ engine, logged } = await startDeployments({ replicas: 2, ...options }));
};
/** The deployment behind the public surface. */
const deployment = (): Deployment =>
  (engine.deployments as unknown as { find(name: string): Deployment }).find('default');
const express = () => deployment().express.running as Replica;
const expressStatus = () => engine.status().replicas.filter((replica) => replica.express);

async function need(): Promise<void> {
  deployment().express.need(true);
  await until(() => engine.status().deployments['default']?.express === true);
}

async function needNoMore(): Promise<void> {
  deployment().express.need(false);
  await until(() => expressStatus().length === 0);
}

/** The model as the engine's catalog has it. */
function modelOf(id: string) {
  const { path, bytes } = engine.models.get(id);
  return { id, version: 1, key: `${id}@1`, path: path as string, bytes, format: 'onnx' as const };
}

afterEach(() => engine?.destroy());

it('an express replica loads and runs models, is seen, and goes when it is not needed', async () => {
  await start();
  await need();
  const model = modelOf('times-3');
  await express().load(model, { pin: false });
  const feeds = readFeeds(row(1, 2));
  const group = { feeds: [feeds], joined: false, outputs: undefined, checked: false, hasApart: false };
  const { calls } = await express().run({ model, groups: [group], spare: [], verify: false });
  expect(calls[0]?.[0]?.outputs()[0]?.['y']?.data).toEqual(Float32Array.of(3, 6, 0, 0));

  const { deployments, replicas, models, ready } = engine.status();
  expect(deployments['default']).toMatchObject({ state: 'healthy', targetReplicas: 2, runningReplicas: 2 });
  expect([ready, replicas.map(({ id, express: isExpress }) => [id, isExpress])]).toEqual([
    true,
    [
      ['default-0', false],
      ['default-1', false],
      ['default-express', true],
    ],
  ]);
  expect(expressStatus()).toMatchObject([
    {
      ...{ deployment: 'default', state: 'running', completed: 1, modelBytes: model.bytes },
      models: [{ id: 'times-3', version: 1, state: 'loaded' }],
    },
  ]);
  expect(models.find(({ id }) => id === 'times-3')?.replicas).toEqual([]);
  expect(engine.models.get('times-3').replicas.map(({ state }) => state)).toEqual(['not loaded', 'not loaded']);
  const figures = {
    infermux_deployment_target_replicas: 2,
    infermux_deployment_running_replicas: 2,
    infermux_deployment_express_replica: 1,
    infermux_total_loaded_models_size_bytes: model.bytes,
  };
  for (const [name, value] of Object.entries(figures))
    expect([name, await sampleOf(engine, name)]).toEqual([name, value]);
  for (const name of ['infermux_replica_up', 'infermux_replica_models', 'infermux_model_loads_total'])
    expect([name, await sampleOf(engine, name, { replica: 'default-express' })]).toEqual([name, 1]);

  await needNoMore();
  expect(await sampleOf(engine, 'infermux_deployment_express_replica')).toBe(0);
  expect(engine.status().replicas.map(({ id }) => id)).toEqual(['default-0', 'default-1']);
  expect(logged.filter((line) => line.includes('express replica'))).toEqual([
    expect.stringMatching(/^short runs wait behind long ones: an express replica is started .*"default-express"/),
    expect.stringMatching(/^the express replica ends .*"not needed"/),
  ]);
});

it('an express replica gets no model that is loaded or pinned, and loses one that is unloaded', async () => {
  await start();
  await engine.models.load('times-1', { replicas: 'all', pin: true });
  await need();
  await engine.models.load('times-2', { replicas: 'all' });
  await engine.models.load('times-3', { replicas: 'all', pin: true });
  expect([...express().models.keys()]).toEqual([]);
  const model = modelOf('times-3');
  await express().load(model, { pin: false });
  expect([...express().pinned]).toEqual([]);
  const each = engine.models.estimateSize('times-3');
  expect(await engine.models.unload('times-3')).toBe(3 * each);
  expect([...express().models.keys()]).toEqual([]);
});

it.runIf(process.platform === 'linux')('only an express replica keeps the priority of the calling thread', async () => {
  const own = getPriority(0);
  const priorities = () =>
    readdirSync('/proc/self/task').flatMap((task) => {
      try {
        return [getPriority(Number(task))];
      } catch {
        return []; // it ended meanwhile
      }
    });
  const [lowered, kept] = [
    () => priorities().filter((priority) => priority > own).length,
    () => priorities().filter((priority) => priority === own).length,
  ];
  await start({ models: directory });
  const before = { lowered: lowered(), kept: kept() };
  expect(before.lowered).toBeGreaterThanOrEqual(2);
  await need();
  expect(lowered()).toBe(before.lowered);
  expect(kept()).toBeGreaterThan(before.kept);
});

it('the thread of an express replica ends with the engine', async () => {
  let threads = 0;
  const count = (worker: Worker) => {
    threads += 1;
    worker.once('exit', () => {
      threads -= 1;
    });
  };
  process.on('worker', count);
  try {
    await start();
    await need();
    expect(threads).toBe(3);
    await engine.close();
    await until(() => threads === 0);
    expect(engine.status().state).toBe('closed');
  } finally {
    process.off('worker', count);
  }
});
