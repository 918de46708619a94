import { afterEach, describe, expect, it } from 'vitest';
import type { DeploymentOptions, InferenceEngine } from '../../../dist/index.js';
import { HANDLER, OWN_MODELS, outcome, requestsTo, startHandler, x } from '../../support/engines/handlers-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const ask = requestsTo(() => engine);

async function start(options?: DeploymentOptions): Promise<void> {
  engine = await startHandler(options);
}

afterEach(() => engine?.destroy());

describe('a configuration', () => {
  it('is there before the first request, and is changed in place', async () => {
    await start({ replicas: 2, userConfig: { factor: 2 } });
    expect(await ask({ do: 'run', model: 'times-1', x })).toBe(10);
    const goal = await engine.deployments.update('app', { userConfig: { factor: 3 } });
    expect(await goal.done).toBe('reached');
    expect(await ask({ do: 'run', model: 'times-1', x })).toBe(15);
    const replicas = engine.status().replicas.map(({ id, restarts }) => [id, restarts]);
    expect(replicas).toEqual([
      ['app-0', 0],
      ['app-1', 0],
    ]);
  });

  it('that is refused leaves the others as they are, until another one is taken', async () => {
    await start({ replicas: 2, userConfig: { factor: 2 } });
    const refused = await engine.deployments.update('app', { userConfig: { refuse: true } });
    await expect(refused.done).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      message: 'the handler refused its userConfig: no such configuration',
    });
    expect(engine.deployments.get('app')).toMatchObject({ state: 'unhealthy', ready: true, runningReplicas: 2 });
    expect(await ask({ do: 'run', model: 'times-1', x })).toBe(10);
    await (await engine.deployments.update('app', { userConfig: { factor: 4 } })).done;
    expect(await ask({ do: 'run', model: 'times-1', x })).toBe(20);
    expect(engine.deployments.get('app').state).toBe('healthy');
  });

  it('that is refused is asked about again with the next change, and a replica that dies comes back with the last one', async () => {
    await start({ replicas: 1, userConfig: { factor: 2 } });
    const refused = await engine.deployments.update('app', { userConfig: { refuse: true } });
    await expect(refused.done).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    const again = await engine.deployments.update('app', { maxQueuedRequests: 77 });
    await expect(again.done).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    expect(await outcome(ask({ do: 'exit' }))).toContain('REPLICA_FAILED');
    await until(() => engine.deployments.get('app').ready);
    expect(await ask({ do: 'run', model: 'times-1', x })).toBe(10);
  });

  it('that is refused while its deployment is deleted does not keep that', async () => {
    await start({ replicas: 2, userConfig: { factor: 2 } });
    const slow = ask({ do: 'nap', ms: 50 });
    const refused = await engine.deployments.update('app', { userConfig: { refuse: true } });
    const deleted = await engine.deployments.delete('app');
    expect(await slow).toBe('rested');
    expect(await deleted.done).toBe('reached');
    expect(['failed', 'superseded']).toContain(refused.status);
    await (await engine.deployments.create('app', { handler: HANDLER })).done;
    expect(await ask({ do: 'echo', value: 1 })).toBe(1);
  });

  it('of a handler that does not take one in place comes with new replicas', async () => {
    await start({ handler: OWN_MODELS, userConfig: { any: 1 } });
    const goal = await engine.deployments.update('app', { userConfig: { any: 2 } });
    expect(await goal.done).toBe('reached');
    expect(engine.status().replicas.map(({ id }) => id)).toEqual(['app-1']);
  });
});
