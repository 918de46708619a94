import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine, InfermuxError } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { row, startDeployments } from '../../support/engines/deployments-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
let logged: string[];

async function start(options: EngineOptions = {}): Promise<void> {
  ({ engine, logged } = await startDeployments(options));
}

const outcome = (promise: Promise<unknown>) =>
  promise.then(
    () => 'done',
    ({ code, message }: InfermuxError) => `${code}: ${message}`,
  );
const done = async (goal: Promise<{ done: Promise<unknown> }>) => (await goal).done;

afterEach(() => engine?.destroy());

describe('resources', () => {
  const many = { cores: 1_000 };

  it('that do not fit are warned of, with how many would', async () => {
    await start();
    await done(engine.deployments.create('a', { resources: many }));
    expect(logged.filter((line) => line.includes('more replicas than this machine can carry')).join()).toMatch(
      /1 replica would take 1000 cores, and \d+ of \d+ are left: 0 fit/,
    );
  });

  it('that do not fit are refused where that is wanted, and autoscaling goes no further', async () => {
    await start({ overcommit: 'refuse', replicas: 1, resources: { cores: 0.1 } });
    expect(await outcome(engine.deployments.create('a', { resources: many }))).toMatch(
      /FAILED_PRECONDITION: deployment "a" does not fit on this machine: 1 replica would take 1000 cores.*0 fit/,
    );
    expect(await outcome(engine.deployments.update('default', { resources: many }))).toContain('does not fit');
    expect(await outcome(engine.apply({ deployments: { a: { resources: { memoryBytes: 2 ** 50 } } } }))).toContain(
      '0 fit',
    );
    expect(engine.deployments.list().map(({ name }) => name)).toEqual(['default']);
    const cores = 0.6 * (await import('node:os')).availableParallelism();
    await done(
      engine.deployments.create('scaled', {
        resources: { cores },
        autoscaling: { minReplicas: 1, maxReplicas: 3, targetOngoingRequests: 0.1, upscaleDelayMs: 0 },
      }),
    );
    const runs = Array.from({ length: 20 }, () =>
      engine.run('scaled/slow', { x: { dims: [1], data: Float32Array.of(3) } }),
    );
    await until(() => logged.some((line) => line.startsWith('autoscaling wants more than fits')));
    await Promise.all(runs);
    expect(engine.deployments.get('scaled').targetReplicas).toBe(1);
  });

  it('are always less than before when fewer are wanted, and are counted whatever changes', async () => {
    const file = join(directory(), 'checkpoint.json');
    const cores = (await import('node:os')).availableParallelism();
    await start({ checkpoint: { file }, resources: { cores: cores / 2 } });
    await done(engine.deployments.create('a', { replicas: 4, resources: { cores } }));
    await engine.close();
    await start({ checkpoint: { file }, resources: { cores: cores / 2 }, overcommit: 'refuse' });
    const { deployments } = engine;
    expect(await outcome(deployments.update('a', { resources: { cores: 2 * cores } }))).toContain('does not fit');
    await done(deployments.update('a', { replicas: 3 }));
    await done(deployments.update('a', { resources: { cores: 0.9 * cores } }));
    await done(deployments.delete('a'));
    const elsewhere = { session: { executionProviders: ['webgpu'] as const } };
    await done(deployments.create('b', { resources: { cores: cores / 2 } }));
    const goal = await deployments.create('c', { replicas: 2, ...elsewhere } as never);
    expect(await outcome(deployments.update('c', { session: {} }))).toContain('does not fit');
    expect(goal.id).toBe(deployments.get('c').goal.id);
  });

  it('keep a deployment at zero that fits no more, with the reason for each request', async () => {
    const cores = (await import('node:os')).availableParallelism();
    const zero = { autoscaling: { minReplicas: 0, maxReplicas: 1 }, resources: { cores } };
    await start({ overcommit: 'refuse', resources: { cores: cores / 2 }, deployments: { zero } as never });
    await until(() => engine.deployments.get('zero').targetReplicas === 0);
    const refused = outcome(engine.run('zero/times-1', row(1)));
    expect(await refused).toMatch(/FAILED_PRECONDITION: deployment "zero" does not fit on this machine/);
    const waiting = engine.run('zero/times-1', row(1), { waitForCapacityMs: 60_000 });
    await engine.deployments.update('default', { replicas: 0 });
    expect((await waiting)['y']?.data[0]).toBe(1);
    expect(engine.deployments.get('zero').targetReplicas).toBe(1);
  });

  it('that do not fit at the start are refused, too', async () => {
    expect(await outcome(start({ overcommit: 'refuse', resources: many }))).toContain('does not fit');
    expect(await outcome(start({ overcommit: 'no' as never }))).toContain('options.overcommit');
    for (const resources of [{ cores: 0 }, { memoryBytes: 0.5 }, { devices: -1 }, { gpu: 1 }])
      expect(await outcome(start({ resources: resources as never }))).toContain('options.resources');
  });
});
