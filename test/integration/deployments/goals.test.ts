import { spawnSync } from 'node:child_process';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, InferenceEngine } from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { directory, replicasIn, row, single, startDeployments } from '../../support/engines/deployments-engine.js';

let engine: InferenceEngine;
const { replicasOf, idsOf } = replicasIn(() => engine);

async function start(options?: EngineOptions): Promise<void> {
  ({ engine } = await startDeployments(options));
}

afterEach(() => engine?.destroy());

describe('a goal', () => {
  it('is the same where nothing is changed, and another takes its place where something is', async () => {
    await start();
    const created = await engine.deployments.create('other', { replicas: 1, labels: { zone: 'a' } });
    const again = await engine.deployments.create('other', { replicas: 1, labels: [{ zone: 'a' }] });
    expect(again.id).toBe(created.id);
    const updated = await engine.deployments.update('other', { replicas: 2 });
    expect(await created.done).toBe(created.status);
    expect(await updated.done).toBe('reached');
    expect((await engine.deployments.create('other', { replicas: 2, labels: { zone: 'a' } })).status).toBe('reached');
    const first = await engine.deployments.update('other', { maxModelsPerReplica: 1 });
    const second = await engine.deployments.update('other', { maxModelsPerReplica: 2 });
    expect([await first.done, first.status, await second.done]).toEqual(['superseded', 'superseded', 'reached']);
    expect(replicasOf('other').map(({ labels }) => labels)).toEqual([{ zone: 'a' }, { zone: 'a' }]);
  });

  it('that was missed is tried for again when the same is asked for', async () => {
    await start();
    const handler = join(mkdtempSync(join(tmpdir(), 'infermux-deployments-')), 'late.mjs');
    const missed = await engine.deployments.create('late', { handler });
    await expect(missed.done).rejects.toMatchObject({ code: 'REPLICA_FAILED' });
    expect({ ...missed }.status).toBe('failed');
    writeFileSync(handler, 'export const handle = () => "there";');
    const again = await engine.deployments.create('late', { handler });
    expect([again.id === missed.id, await again.done]).toEqual([false, 'reached']);
    expect(engine.deployments.get('late').state).toBe('healthy');
  });

  it('is out of reach for a handler that is not there; what was there goes on', async () => {
    await start();
    const goal = await engine.deployments.create('broken', { handler: '/nowhere/handler.mjs' });
    const message = expect.stringMatching(/deployment broken: 3 starts failed.*could not be imported/);
    await expect(goal.done).rejects.toMatchObject({ code: 'REPLICA_FAILED', message });
    expect(engine.ready).toBe(false);
    expect(engine.deployments.get('broken')).toMatchObject({ state: 'unhealthy', ready: false });
    expect(await codeOf(engine.run<number>('broken', 1))).toBe('REPLICA_FAILED');
    expect(await codeOf(engine.run('times-1', row()))).toBe('answered');
    await (await engine.deployments.delete('broken')).done;
    expect(engine.ready).toBe(true);
  });
});

it('one of the same name begins when the one before it is gone, however they are asked for', async () => {
  await start({ deployments: { other: {} } });
  const inFlight = codeOf(engine.run('other/slow', single));
  const deleted = engine.deployments.delete('other');
  const created = engine.deployments.create('other', { replicas: 2 });
  expect(await inFlight).toBe('answered');
  expect(await (await created).done).toBe('reached');
  expect((await deleted).status).toBe('reached');
  expect(engine.deployments.list().map(({ name }) => name)).toEqual(['default', 'other']);
  expect(idsOf('other')).toEqual(['other-0', 'other-1']);
});

it("what the caller does with its options later is nobody else's affair", async () => {
  await start();
  const labels = { zone: 'a' };
  const rollingUpdate = { fraction: 0.5 };
  await (await engine.deployments.create('other', { labels, rollingUpdate })).done;
  labels.zone = 'b';
  rollingUpdate.fraction = 7;
  const goal = await engine.deployments.update('other', { maxQueuedRequests: 9 });
  expect(goal.status).toBe('reached');
  expect(engine.deployments.get('other').options).toMatchObject({
    labels: [{ zone: 'a' }],
    rollingUpdate: { fraction: 0.5 },
    maxQueuedRequests: 9,
  });
  expect(idsOf('other')).toEqual(['other-0']);
});

it('an option that is undefined goes back to its default', async () => {
  await start();
  await (await engine.deployments.create('other', { replicas: 2, maxQueuedRequests: 9 })).done;
  await (await engine.deployments.update('other', { replicas: undefined, maxQueuedRequests: undefined })).done;
  expect(engine.deployments.get('other').options).toMatchObject({ replicas: 1, maxQueuedRequests: 4_096 });
});

it('a process waits for a change to be decided, though nothing else keeps it up', () => {
  const script = `
    import { createEngine } from ${JSON.stringify(new URL('../../../dist/index.js', import.meta.url).href)};
    const engine = await createEngine({ models: ${JSON.stringify(directory)}, replicas: 1 });
    const goal = await engine.deployments.create('h', { handler: '/nowhere/handler.mjs' });
    console.log(await goal.done.catch(({ code }) => code), goal.status);
    console.log(await (await engine.deployments.create('other')).done);`;
  const args = ['--input-type=module', '--eval', script];
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect({ status, stdout }).toEqual({ status: 0, stdout: 'REPLICA_FAILED failed\nreached\n' });
});

it('a deployment that changes while the engine closes does not keep it', async () => {
  await start({ replicas: 1 });
  const goal = await engine.deployments.create('other', { replicas: 2 });
  const closed = engine.close();
  expect(await codeOf(engine.deployments.create('third'))).toBe('ENGINE_CLOSED');
  await closed;
  expect(['failed', 'reached']).toContain(goal.status);
  expect(engine.ready).toBe(false);
});
