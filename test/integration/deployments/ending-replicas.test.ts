import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { directory, replicasIn, row, single, startDeployments } from '../../support/engines/deployments-engine.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const { replicasOf } = replicasIn(() => engine);

async function start(options?: EngineOptions): Promise<void> {
  ({ engine } = await startDeployments(options));
}

afterEach(() => engine?.destroy());

it('the last replica stays until what was accepted is answered', async () => {
  await start({ deployments: { other: {} } });
  const inFlight = Array.from({ length: 20 }, () => codeOf(engine.run('other/slow', single)));
  const goal = await engine.deployments.update('other', { replicas: 0 });
  expect(await codeOf(engine.run('other/slow', single))).toBe('FAILED_PRECONDITION');
  expect(await Promise.all(inFlight)).toEqual(Array(20).fill('answered'));
  expect(await goal.done).toBe('reached');
  expect(replicasOf('other')).toEqual([]);
});

it('a deployment is deleted while its handler is in calls of onnxruntime-node of its own, and the process lives', () => {
  const script = `
    import { createEngine } from ${JSON.stringify(new URL('../../../dist/index.js', import.meta.url).href)};
    const engine = await createEngine({ replicas: 0 });
    for (let round = 0; round < 5; round += 1) {
      await engine.deployments.create('eager', { handler: ${JSON.stringify(new URL('../../support/eager-handler.mjs', import.meta.url).href)} });
      await new Promise((resolve) => setTimeout(resolve, 250 + 50 * round));
      await (await engine.deployments.delete('eager', { force: true })).done;
    }
    await engine.close();
    console.log('alive');`;
  const env = { ...process.env, EAGER_MODEL: join(directory, 'slow.onnx') };
  const args = ['--input-type=module', '--eval', script];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', env });
  expect({ status, stdout }).toEqual({ status: 0, stdout: 'alive\n' });
});

it('force rejects what was accepted at once', async () => {
  await start();
  await (await engine.deployments.create('other')).done;
  const inFlight = Array.from({ length: 10 }, () => codeOf(engine.run('other/slow', single)));
  const deleted = await engine.deployments.delete('other', { force: true });
  expect(await Promise.all(inFlight)).toEqual(Array(10).fill('FAILED_PRECONDITION'));
  expect(await deleted.done).toBe('reached');
  // The name is free again.
  await (await engine.deployments.create('other')).done;
  expect(await codeOf(engine.run('other/times-1', row()))).toBe('answered');
});

it('a replica that does not finish in time is given up, and its requests go to another', async () => {
  await start({ replicas: 2, gracefulShutdownTimeoutMs: 20 });
  const inFlight = Array.from({ length: 4 }, () => codeOf(engine.run('slow', single)));
  await until(() => engine.status().replicas.every(({ ongoing }) => ongoing > 0));
  const goal = await engine.deployments.update('default', { replicas: 1 });
  expect(await goal.done).toBe('reached');
  expect(await Promise.all(inFlight)).toEqual(Array(4).fill('answered'));
});

it('a rolling update gives up whatever does not end in time, again and again, and no request is lost', async () => {
  const handler = new URL('../../support/handler.mjs', import.meta.url);
  await start({ replicas: 0, deployments: { naps: { handler, replicas: 3, gracefulShutdownTimeoutMs: 5 } } });
  for (let update = 1; update <= 3; update += 1) {
    const calls = Array.from({ length: 9 }, () => engine.run<string>('naps', { do: 'nap', ms: 60 }));
    await until(() => engine.status().replicas.every(({ ongoing }) => ongoing > 0));
    const goal = await engine.deployments.update('naps', { labels: { update: String(update) } });
    expect(await Promise.all(calls)).toEqual(Array(9).fill('rested'));
    expect(await goal.done).toBe('reached');
  }
});
