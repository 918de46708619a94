import { afterEach, expect, it } from 'vitest';
import { createEngine, type EngineOptions, type InferenceEngine } from '../../../dist/index.js';
import { codeOf } from '../../support/code-of.js';
import { directory } from '../../support/directories.js';
import { row } from '../../support/engines/small-engine.js';
import { scaleModel } from '../../support/onnx-models.js';

let engine: InferenceEngine;

async function start(options: EngineOptions = {}): Promise<void> {
  engine = await createEngine({ models: directory(), replicas: 1, ...options });
}

afterEach(() => engine.destroy());

const files = (factor: number) => ({ 'model.onnx': scaleModel(factor) });
const lines = async () => (await engine.metrics.metrics()).split('\n').filter((line) => line.startsWith('infermux_'));

/** Resolves to the lines whose labels have one of these values, exactly. */
const linesOf = async (...values: string[]) =>
  (await lines()).filter((line) => values.some((value) => line.includes(`="${value}"`)));

/** Resolves to the sum of the samples of each counter. */
async function sums(): Promise<Map<string, number>> {
  const all = new Map<string, number>();
  for (const line of await lines()) {
    const [, name = '', value] = /^(\w+_total)(?:\{.*\})? (\S+)$/.exec(line) ?? [];
    if (value !== undefined) all.set(name, (all.get(name) ?? 0) + Number(value));
  }
  return all;
}

async function expectNoSumLess(before: ReadonlyMap<string, number>): Promise<void> {
  const after = await sums();
  expect([...before].filter(([name, sum]) => (after.get(name) ?? 0) < sum)).toEqual([]);
}

it('models that are undeployed leave no series of their own, and their counts stay', async () => {
  await start();
  await engine.models.deploy('stays', files(1));
  await engine.run('stays', row(1));
  const [few] = [(await lines()).length, await linesOf('stays')];
  for (let index = 0; index < 20; index += 1) {
    const id = `customer-${index}`;
    await engine.models.deploy(id, files(index));
    await engine.run(id, row(1));
    await engine.run(`${id}@1`, row(1));
    await engine.models.undeploy(id);
  }
  const text = await lines();
  expect(text.filter((line) => /customer|@|#/.test(line))).toEqual([]);
  expect(text).toContain('infermux_router_requests_total{model="stays"} 1');
  expect(text).toContain('infermux_router_requests_total{model="(other)"} 40');
  // The series of the others are one model's.
  expect(text.length).toBeLessThan(2 * few);
});

it('a model that is deployed again counts anew', async () => {
  await start();
  for (let round = 0; round < 2; round += 1) {
    await engine.models.deploy('again', files(1));
    await engine.run('again', row(1));
    expect(await lines()).toContain('infermux_router_requests_total{model="again"} 1');
    await engine.models.undeploy('again');
    expect(await linesOf('again')).toEqual([]);
  }
});

it('a name that is nothing never becomes a label', async () => {
  await start();
  await engine.models.deploy('m', files(1));
  await engine.endpoints.set('public', { traffic: { m: 1 } });
  const targets = ['no-model', 'm@7', 'no-deployment/m', 'default/no-model', '(other)', 'public/m'];
  for (const target of targets) expect(await codeOf(engine.run(target, row(1)))).not.toBe('answered');
  expect(await codeOf(engine.run('m', row(1), { deployment: 'no-deployment' }))).not.toBe('answered');
  // What was looked for in the directory counts as asked for, under no name of its own.
  expect((await lines()).filter((line) => /no-|m@7|\(other\)|public\/m/.test(line))).toEqual([
    'infermux_router_requests_total{model="(other)"} 2',
    'infermux_model_request_errors_total{model="(other)"} 2',
  ]);
});

it('deployments and their replicas that are deleted leave, and their counts stay', async () => {
  await start();
  await engine.models.deploy('m', files(1));
  const { done } = await engine.deployments.create('blue', { replicas: 2 });
  await done;
  for (let request = 0; request < 8; request += 1) await engine.run('blue/m', row(1));
  await codeOf(engine.run('blue/m', {}));
  expect((await linesOf('blue', 'blue-0', 'blue-1')).length).toBeGreaterThan(5);
  const before = await sums();
  await (await engine.deployments.delete('blue')).done;
  expect(await linesOf('blue', 'blue-0', 'blue-1')).toEqual([]);
  expect(await lines()).toContain('infermux_deployment_requests_total{deployment="(other)"} 9');
  await expectNoSumLess(before);
});

it('replicas that a rolling update replaces leave, and there are no more series than replicas', async () => {
  await start({ replicas: 2 });
  await engine.models.deploy('m', files(1));
  for (let round = 0; round < 3; round += 1) {
    await engine.models.load('m', { replicas: 'all' });
    const before = await sums();
    const { done } = await engine.deployments.update('default', { labels: { round: String(round) } });
    await done;
    const known = new Set([...engine.status().replicas.map(({ id }) => id), '(other)']);
    const told = (await lines()).flatMap((line) => /replica="([^"]*)"/.exec(line)?.[1] ?? []);
    expect(told.length).toBeGreaterThan(0);
    expect(told.filter((replica) => !known.has(replica))).toEqual([]);
    await expectNoSumLess(before);
  }
});

it('endpoints and shadow targets that are removed leave, and their counts stay', async () => {
  await start();
  for (const id of ['m', 'old', 'new']) await engine.models.deploy(id, files(1));
  await engine.endpoints.set('public', { traffic: { m: 1 }, shadow: { old: 1 } });
  await engine.run('public', row(1));
  expect(await linesOf('public')).toContain('infermux_shadow_requests_total{endpoint="public",target="old"} 1');
  await engine.endpoints.set('public', { traffic: { m: 1 }, shadow: { new: 1 } });
  await engine.run('public', row(1));
  expect((await linesOf('public')).filter((line) => line.includes('shadow_requests'))).toEqual([
    'infermux_shadow_requests_total{endpoint="public",target="new"} 1',
    'infermux_shadow_requests_total{endpoint="public",target="(other)"} 1',
  ]);
  const before = await sums();
  await engine.endpoints.remove('public');
  expect(await linesOf('public')).toEqual([]);
  expect(await lines()).toContain('infermux_endpoint_requests_total{endpoint="(other)"} 2');
  await expectNoSumLess(before);
});

it("a handler's own models, whose names its callers choose, are no labels", async () => {
  const handler = new URL('../../support/own-models-handler.mjs', import.meta.url);
  await start({ replicas: 0, deployments: { app: { handler, replicas: 1 } } });
  for (let index = 0; index < 5; index += 1) await engine.run<unknown>(`app/mine-${index}`, undefined);
  expect((await lines()).filter((line) => line.includes('mine-'))).toEqual([]);
  expect(await lines()).toContain('infermux_router_requests_total{model="(handler)"} 5');
});
