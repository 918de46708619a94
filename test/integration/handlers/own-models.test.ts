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
    expect(story).toEqual(['loaded a', 'loaded b', 'disposed b', 'loaded c']);
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
