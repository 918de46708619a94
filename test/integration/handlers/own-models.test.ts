import { afterEach, describe, expect, it } from 'vitest';
import type { DeploymentOptions, InferenceEngine } from '../../../dist/index.js';
import { OWN_MODELS, outcome, requestsTo, startHandler } from '../../support/engines/handlers-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const ask = requestsTo(() => engine);

async function start(options?: DeploymentOptions): Promise<void> {
  engine = await startHandler(options);
}

afterEach(() => engine?.destroy());

describe('models of the handler', () => {
  const load = (ids?: string[], target = 'app') =>
    ask<{ models: string[]; replica: string; story: string[] }>(ids, target);

  const gauge = async (name: string, type: string) => {
    const { values } = (await engine.metrics.getSingleMetric(name)?.get()) ?? { values: [] };
    return values.find(({ labels }) => labels['type'] === type || labels['replica'] === type)?.value;
  };

  it('count for the bytes that loadModel says, in the bound, in the status and in the gauges', async () => {
    await start({ handler: OWN_MODELS, maxModelsPerReplica: -1, maxModelBytesPerReplica: 100 });
    for (const id of ['sized-40', 'sized-50', 'sized-30']) await load([id]);
    const replica = () => engine.status().replicas.find(({ deployment }) => deployment === 'app');
    await until(() => replica()?.models.length === 2);
    expect(replica()).toMatchObject({ modelBytes: 80 });
    expect(
      replica()
        ?.models.map(({ id }) => id)
        .sort(),
    ).toEqual(['sized-30', 'sized-50']);
    expect([
      await gauge('infermux_loaded_models', 'handler'),
      await gauge('infermux_total_loaded_models_size_bytes', 'handler'),
      await gauge('infermux_loading_models', 'handler'),
    ]).toEqual([2, 80, 0]);
    await expect(load(['sized-101'])).rejects.toThrow(/has 101 bytes, maxModelBytesPerReplica is 100/);
    const { story } = await load([]);
    expect(story).toContain('disposed sized-101');
    expect(replica()?.modelBytes).toBe(80);
  });

  it('that cannot be disposed of are counted and logged', async () => {
    await start({ handler: OWN_MODELS, maxModelsPerReplica: 1 });
    await load(['a stuck']);
    await load(['b']);
    await until(async () => (await gauge('infermux_model_release_failures_total', 'app-0')) === 1);
  });

  it('are kept like sessions, and disposed of when they leave', async () => {
    await start({ handler: OWN_MODELS, maxModelsPerReplica: 2 });
    for (const id of ['a', 'b', 'a', 'c']) await load([id]);
    await until(() => engine.status().replicas[0]?.models.length === 2);
    expect(
      engine
        .status()
        .replicas[0]?.models.map(({ id }) => id)
        .sort(),
    ).toEqual(['a', 'c']);
    const { story } = await load([]);
    expect(story).toEqual(['loaded a', 'loaded b', 'loaded c', 'disposed b']);
  });

  it('may be more at once than there is room for, as long as one request needs them', async () => {
    await start({ handler: OWN_MODELS, maxModelsPerReplica: 1 });
    const { models: ids } = await load(['a', 'b', 'plain c']);
    expect(ids).toEqual(['a', 'b', 'plain c']);
    await until(() => engine.status().replicas[0]?.models.length === 1);
    expect((await load(['d'])).story).toEqual(expect.arrayContaining(['disposed a', 'disposed b', 'loaded d']));
  });

  it('draw requests that name them', async () => {
    await start({ handler: OWN_MODELS, replicas: 3 });
    const { replica } = await load(undefined, 'app/mine');
    for (let request = 0; request < 10; request += 1) {
      expect(await load(undefined, 'app/mine')).toMatchObject({ replica, story: ['loaded mine'] });
    }
  });

  it('that cannot be loaded are MODEL_LOAD_FAILED', async () => {
    await start({ handler: OWN_MODELS });
    expect(await outcome(load(['bad']))).toContain(
      'MODEL_LOAD_FAILED: the handler could not load model "bad": nothing there',
    );
    expect((await load(['good'])).models).toEqual(['good']);
  });

  it('are not to blame for a thread that another request has ended', async () => {
    await start({ handler: OWN_MODELS });
    const slow = load(undefined, 'app/slow');
    await until(() => engine.status().replicas[0]?.models.some(({ state }) => state === 'loading') === true);
    const deadly = outcome(load(['exit']));
    expect((await slow).models).toEqual(['slow']);
    expect(await deadly).toContain('REPLICA_FAILED');
  });
});
