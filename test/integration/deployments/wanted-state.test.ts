import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { EngineOptions, GoalReport, InferenceEngine, InfermuxError, WantedState } from '../../../dist/index.js';
import { directory } from '../../support/directories.js';
import { replicasIn, row, startDeployments } from '../../support/engines/deployments-engine.js';
import { scaleModel } from '../../support/onnx-models.js';
import { until } from '../../support/until.js';

let engine: InferenceEngine;
const { idsOf } = replicasIn(() => engine);

async function start(options: EngineOptions = {}): Promise<void> {
  ({ engine } = await startDeployments(options));
}

const outcome = (promise: Promise<unknown>) =>
  promise.then(
    () => 'done',
    ({ code, message }: InfermuxError) => `${code}: ${message}`,
  );
const done = async (goal: Promise<{ done: Promise<unknown> }>) => (await goal).done;

afterEach(() => engine?.destroy());

describe('deployments.apply', () => {
  it('creates what is not there, and changes what is there to exactly these options', async () => {
    await start();
    await done(engine.deployments.apply('a', { replicas: 1, maxQueuedRequests: 7 }));
    expect(engine.deployments.get('a').options).toMatchObject({ replicas: 1, maxQueuedRequests: 7 });
    const [replica] = idsOf('a');
    await done(engine.deployments.apply('a', { replicas: 2 }));
    expect(engine.deployments.get('a').options).toMatchObject({ replicas: 2, maxQueuedRequests: 4_096 });
    expect(idsOf('a')).toContain(replica);
    const goal = await engine.deployments.apply('a', { replicas: 2 });
    expect(goal.status).toBe('reached');
  });

  it('waits for the end of one that is being deleted', async () => {
    await start();
    await done(engine.deployments.apply('a', {}));
    const deleted = await engine.deployments.delete('a');
    await done(engine.deployments.apply('a', { labels: { made: 'again' } }));
    expect(deleted.status).toBe('reached');
    expect(engine.deployments.get('a').options.labels).toEqual([{ made: 'again' }]);
  });

  it('is refused with what is wrong', async () => {
    await start();
    expect(await outcome(engine.deployments.apply('a', { replicas: -1 }))).toContain('INVALID_ARGUMENT');
    expect(await outcome(engine.deployments.apply('', {}))).toContain('INVALID_ARGUMENT');
    const handler = new URL('../../support/handler.mjs', import.meta.url);
    expect(await outcome(engine.deployments.apply('default', { handler }))).toContain('a handler cannot be added');
  });
});

it('delete with missingOk is done where nothing is', async () => {
  await start();
  expect(await outcome(engine.deployments.delete('none'))).toContain('FAILED_PRECONDITION');
  expect((await engine.deployments.delete('none', { missingOk: true })).status).toBe('reached');
  await engine.deployments.apply('a', {});
  const first = await engine.deployments.delete('a', { missingOk: true });
  expect((await engine.deployments.delete('a', { missingOk: true })).id).toBe(first.id);
  await first.done;
});

describe('goals', () => {
  it('can be asked for by their ids', async () => {
    await start();
    const { goals } = engine.deployments;
    const made = await engine.deployments.create('a', {});
    expect(goals.get(made.id)).toEqual({ id: made.id, deployment: 'a', status: 'pending', reason: undefined });
    const changed = await engine.deployments.update('a', { replicas: 2 });
    await changed.done;
    expect([goals.get(made.id)?.status, goals.get(changed.id)?.status]).toEqual(['superseded', 'reached']);
    const failing = await engine.deployments.create('b', { handler: '/nowhere/handler.mjs' });
    await outcome(failing.done);
    expect(goals.get(failing.id)).toMatchObject({ status: 'failed', reason: expect.stringContaining('starts failed') });
    expect(goals.get('none')).toBe(undefined);
    expect(goals.list().map(({ deployment }) => deployment)).toEqual(['default', 'a', 'a', 'b']);
  });

  it('are known after a restart', async () => {
    const checkpoint = { file: join(directory(), 'checkpoint.json') };
    await start({ checkpoint });
    const made = await engine.deployments.create('a', {});
    await made.done;
    const changed = await engine.deployments.update('a', { labels: { a: 'b' } });
    await engine.destroy();
    await start({ checkpoint });
    expect(engine.deployments.goals.get(changed.id)).toMatchObject({ deployment: 'a' });
    await until(() => engine.deployments.goals.get(changed.id)?.status === 'reached');
    expect(engine.deployments.get('a').goal.id).toBe(changed.id);
    expect(engine.deployments.goals.get(made.id)).toBe(undefined);
  });
});

describe('engine.apply', () => {
  const state = (factor: number) => ({
    deployments: { a: { replicas: 1 }, b: { maxQueuedRequests: 7 } },
    endpoints: { e: { traffic: { 'a/made': 1 } } },
    models: { made: { path: join(directory({ 'm.onnx': scaleModel(factor) }), 'm.onnx') } },
  });

  it('brings all to the wanted state at once, and says before what it would do', async () => {
    await start();
    const wanted = state(2);
    const expected = [
      { kind: 'model', name: 'made@1', action: 'create', options: [] },
      { kind: 'deployment', name: 'a', action: 'create', options: [] },
      { kind: 'deployment', name: 'b', action: 'create', options: [] },
      { kind: 'endpoint', name: 'e', action: 'create', options: [] },
    ];
    expect(await engine.apply(wanted, { dryRun: true })).toEqual({ changes: expected, goals: [] });
    expect(engine.deployments.list()).toHaveLength(1);
    const { changes, goals } = await engine.apply(wanted);
    expect(changes).toEqual(expected);
    await Promise.all(goals.map((goal) => goal.done));
    expect((await engine.run('e', row(3)))['y']?.data[0]).toBe(6);
    expect(await engine.apply(wanted)).toEqual({ changes: [], goals: [] });
    const next = {
      ...state(3),
      deployments: { b: { maxQueuedRequests: 8, labels: { a: 'b' } } },
      endpoints: { e: { traffic: { 'b/made': 1 } } },
    };
    expect((await engine.apply(next)).changes).toEqual([
      { kind: 'model', name: 'made@1', action: 'change', options: [] },
      { kind: 'deployment', name: 'b', action: 'change', options: ['maxQueuedRequests', 'labels'] },
      { kind: 'endpoint', name: 'e', action: 'change', options: ['traffic'] },
      { kind: 'deployment', name: 'a', action: 'delete', options: [] },
    ]);
    expect((await engine.run('e', row(3)))['y']?.data[0]).toBe(9);
    expect(
      (await engine.apply({ deployments: {}, endpoints: {}, models: {} })).changes.map(({ kind, action, name }) => [
        kind,
        action,
        name,
      ]),
    ).toEqual([
      ['endpoint', 'delete', 'e'],
      ['deployment', 'delete', 'b'],
      ['model', 'delete', 'made@1'],
    ]);
    expect([engine.endpoints.list(), engine.models.list().some(({ id }) => id === 'made')]).toEqual([[], false]);
    expect(engine.deployments.get('default').state).toBe('healthy');
  });

  it('changes nothing when something is wrong, and leaves alone what it does not name', async () => {
    await start();
    await engine.apply(state(2));
    const wrong = [
      { deployments: { a: { replicas: 'x' } } },
      { deployments: { c: null } },
      { endpoints: { e: { traffic: { a: 2 } } } },
      { endpoints: { '': { traffic: { a: 1 } } } },
      { models: { made: 7 } },
      { models: { 'a@b': 'x' } },
      { deployment: {} },
      null,
    ];
    for (const wanted of wrong) {
      const both = wanted === null ? wanted : { models: {}, ...wanted };
      expect(await outcome(engine.apply(both as never))).toContain('INVALID_ARGUMENT');
    }
    expect(await outcome(engine.apply({}, { dry: true } as never))).toContain('INVALID_ARGUMENT');
    expect(await engine.apply({})).toEqual({ changes: [], goals: [] });
    expect(
      engine.deployments
        .list()
        .map(({ name }) => name)
        .sort(),
    ).toEqual(['a', 'b', 'default']);
    expect(engine.models.get('made').problem).toBe(undefined);
  });
});

describe('engine.apply, where one thing takes the place of another', () => {
  const fileOf = (factor: number) => join(directory({ 'm.onnx': scaleModel(factor) }), 'm.onnx');
  const finderOf = (factor: number) => ({ find: () => ({ bytes: scaleModel(factor) }) });
  const kindsOf = async (state: WantedState) =>
    (await engine.apply(state)).changes.map(({ action, kind, name }) => `${action} ${kind} ${name}`);
  const answer = async (target: string) => (await engine.run(target, row(1)))['y']?.data[0];

  it('serves a model from files after a finder, and the other way round', async () => {
    await start();
    const sources = [fileOf(2), fileOf(3), finderOf(4), finderOf(5), fileOf(6), { path: fileOf(7), version: 2 }];
    const told: string[][] = [];
    for (const [index, m] of sources.entries()) {
      told.push(await kindsOf({ models: { m } }));
      expect(await answer('m')).toBe(index + 2);
      expect(await kindsOf({ models: { m } })).toEqual([]);
    }
    expect(told).toEqual([
      ['create model m@1'],
      ['change model m@1'],
      ['change model m'],
      ['change model m'],
      ['change model m@1'],
      ['create model m@2', 'delete model m@1'],
    ]);
    expect(engine.models.get('m').version).toBe(2);
  });

  it('frees what replicas take before others take it, where more than there is is refused', async () => {
    const cores = (await import('node:os')).availableParallelism();
    await start({ overcommit: 'refuse', resources: { cores: cores / 10 } });
    const [most, some] = [{ cores: 0.9 * cores }, { cores: 0.45 * cores }];
    await engine.apply({ deployments: { a: { resources: most } } });
    expect(await kindsOf({ deployments: { b: { resources: most } } })).toEqual([
      'delete deployment a',
      'create deployment b',
    ]);
    await engine.apply({ deployments: { b: { resources: some }, c: { resources: some } } });
    expect(
      await kindsOf({
        deployments: { c: { resources: most, replicas: 1 }, b: { replicas: 0, resources: some } },
      }),
    ).toEqual(['change deployment b', 'change deployment c']);
    expect(await outcome(engine.apply({ deployments: { b: { resources: some }, c: { resources: most } } }))).toContain(
      'does not fit',
    );
    expect(engine.deployments.get('b').options.replicas).toBe(0);
  });

  it('changes nothing when a later part of it would fail', async () => {
    await start({ overcommit: 'refuse', resources: { cores: 0.1 } });
    const good = { deployments: { n: { resources: { cores: 0.1 } } } };
    const wrong: [WantedState, string][] = [
      [
        { ...good, endpoints: { e: { traffic: { 'x/times-1': 1 } } } },
        'FAILED_PRECONDITION: endpoint "e": no deployment "x"',
      ],
      [{ ...good, endpoints: { e: { traffic: { none: 1 } } } }, 'MODEL_NOT_FOUND: endpoint "e": no model "none"'],
      [{ ...good, endpoints: { e: { traffic: { 'n/none': 1 } } } }, 'MODEL_NOT_FOUND'],
      [{ ...good, models: { m: '/nowhere/model.onnx' } }, 'FAILED_PRECONDITION: model "m@1"'],
      [{ ...good, models: { m: fileOf(2), 'm@1': fileOf(3) } }, '"m" and "m@1" name the same model'],
      [{ ...good, models: { m: finderOf(2), 'm@2': fileOf(3) } }, '"m" and "m@2" name the same model'],
      [{ ...good, models: { m: finderOf(2), 'f@2': finderOf(3) } }, 'a finder is registered for all versions'],
      [{ ...good, models: { m: { find: () => undefined, timeoutMs: -5 } } }, 'finder of model "m".timeoutMs'],
      [{ ...good, models: { 'm@2': { path: fileOf(2), version: 3 } } }, '"m@2" names another'],
      [{ ...good, models: { m: fileOf(2), 'times-1@2': fileOf(3) } }, 'MODEL_ALREADY_EXISTS: model "times-1"'],
      [{ ...good, models: { 'times-1': finderOf(2) } }, 'MODEL_ALREADY_EXISTS: model "times-1"'],
      [{ deployments: { n: { router: { module: '/nowhere/router.mjs' } } } }, 'could not be imported'],
      [
        { deployments: { ...good.deployments, default: { handler: '/nowhere/handler.mjs' } } },
        'a handler cannot be added',
      ],
      [{ deployments: { n: { resources: { cores: 1_000 } } } }, 'does not fit'],
    ];
    for (const [state, message] of wrong)
      for (const options of [{ dryRun: true }, {}])
        expect(await outcome(engine.apply({ models: {}, ...state }, options))).toContain(message);
    expect(engine.deployments.list().map(({ name }) => name)).toEqual(['default']);
    await engine.apply({ ...good, models: { m: fileOf(2) }, endpoints: { e: { traffic: { 'n/m': 1 } } } });
    expect(await outcome(engine.apply({ models: {}, endpoints: { e: { traffic: { 'n/m': 1 } } } }))).toContain(
      'would be unregistered',
    );
    expect(await answer('e')).toBe(2);
    // What is left, or may be found, is there all the same.
    const [first, second] = [fileOf(2), fileOf(3)];
    await engine.apply({ models: { 'm@1': first, 'm@2': second }, endpoints: { e: { traffic: { 'n/m': 1 } } } });
    expect(await answer('e')).toBe(3);
    await engine.apply({ models: { 'm@1': first }, endpoints: { e: { traffic: { m: 1 } } } });
    expect(await answer('e')).toBe(2);
    await engine.apply({ models: { f: finderOf(5) }, endpoints: { e: { traffic: { 'f@3': 1 } } } });
    expect(await answer('e')).toBe(5);
  });

  it('changes nothing when a checkpoint cannot carry a later part of it', async () => {
    await start({ checkpoint: { file: join(directory({}), 'checkpoint.json') } });
    const router = { chooseReplicas: () => [] };
    const refused = outcome(engine.apply({ models: { m: fileOf(2) }, deployments: { n: { router } } }));
    expect(await refused).toContain('FAILED_PRECONDITION: deployment "n": a router of your own is code');
    expect(await outcome(engine.run('m', row(1)))).toContain('MODEL_NOT_FOUND');
  });

  it('reads what is wanted once, at once', async () => {
    await start();
    let reads = 0;
    const deployments = {
      get a() {
        reads += 1;
        return { replicas: reads > 1 ? -5 : 1 };
      },
      b: { replicas: 1 },
    };
    const applied = engine.apply({ deployments });
    deployments.b.replicas = -3;
    expect((await applied).changes).toHaveLength(2);
    for (const part of ['deployments', 'endpoints', 'models']) {
      const trap = {
        get a() {
          throw new TypeError('boo');
        },
      };
      expect(await outcome(engine.apply({ [part]: trap } as never))).toContain('INVALID_ARGUMENT');
    }
  });

  it('goes on with the goal of a deployment that is not as wanted yet', async () => {
    await start();
    const file = join(directory(), 'handler.mjs');
    const wanted = { deployments: { h: { handler: file } } };
    const [goal] = (await engine.apply(wanted)).goals;
    expect(await outcome(goal?.done as Promise<unknown>)).toContain('REPLICA_FAILED');
    writeFileSync(file, 'export const handle = (request) => request;');
    expect((await engine.apply(wanted, { dryRun: true })).goals).toEqual([]);
    const { changes, goals } = await engine.apply(wanted);
    expect([changes, await goals[0]?.done]).toEqual([[], 'reached']);
    expect(engine.deployments.goals.get(goals[0]?.id as string)?.status).toBe('reached');
  });
});

describe('changes of one deployment', () => {
  it('are made in their order, those after one that waits for the end of a deletion, too', async () => {
    await start();
    const { deployments } = engine;
    await done(deployments.create('a', {}));
    await Promise.all([
      deployments.delete('a'),
      deployments.apply('a', {}),
      deployments.delete('a', { missingOk: true }),
    ]);
    await until(() => deployments.list().every(({ name }) => name !== 'a'));
    await done(deployments.create('a', {}));
    await Promise.all([
      deployments.delete('a'),
      deployments.apply('a', {}),
      deployments.update('a', { maxQueuedRequests: 9 }),
    ]);
    expect(deployments.get('a').options.maxQueuedRequests).toBe(9);
  });

  it('that change nothing have the goal that there is, and make no other', async () => {
    await start();
    const { deployments } = engine;
    await done(deployments.create('a', {}));
    const told: unknown[] = [];
    engine.on('goal', (goal) => told.push(goal));
    const before = deployments.goals.list().length;
    for (let time = 0; time < 3; time += 1) {
      expect((await deployments.create('a', {})).id).toBe(deployments.get('a').goal.id);
      expect((await deployments.apply('a', {})).id).toBe(deployments.get('a').goal.id);
      expect((await deployments.delete('none', { missingOk: true })).status).toBe('reached');
    }
    await done(deployments.update('a', { maxQueuedRequests: 9 }));
    await until(() => told.length > 0);
    expect(new Set(told.map((goal) => (goal as GoalReport).id)).size).toBe(1);
    expect(deployments.goals.list()).toHaveLength(before + 1);
  });
});
