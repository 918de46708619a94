import { afterEach, describe, expect, it } from 'vitest';
import { simulateEngine } from '../../bench/simulation/engine-simulation.js';
import { TWELVE_MODELS } from '../../bench/simulation/setting.js';
import {
  type ReplicaView,
  type RequestRouter,
  ROUTER_NAMES,
  type RouterName,
} from '../../dist/contracts/request-router.js';
import { createEngine, type EngineOptions, type InferenceEngine, type InfermuxError } from '../../dist/index.js';
import { modelDirectory, scaleModel } from '../support/onnx-models.js';
import { until } from '../support/until.js';

const names = Array.from({ length: 6 }, (_, index) => `times-${index + 1}`);
const models = modelDirectory(Object.fromEntries(names.map((name, index) => [name, scaleModel(index + 1)])));
const row = { x: { dims: [1, 4], data: Float32Array.of(1, 0, 0, 0) } };

let engine: InferenceEngine;
let logged: string[];

async function start(options: EngineOptions = {}): Promise<void> {
  logged = [];
  const nothing = () => undefined;
  const note = (_: object, message: string) => logged.push(message);
  const logger = { debug: nothing, info: nothing, warn: note, error: note } as never;
  engine = await createEngine({ models, replicas: 2, logger, ...options });
}

async function metric(name: string, labels = ''): Promise<number> {
  const text = await engine.metrics.metrics();
  const lines = text.split('\n').filter((line) => line.startsWith(`infermux_${name}{`) && line.includes(labels));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

afterEach(() => engine?.destroy());

describe('a router of the application', () => {
  it('places requests by labels, sees what there is to see, and is told of each request', async () => {
    const routed = new Map<object, string>();
    let completed = 0;
    const shown: ReplicaView[] = [];
    const router: RequestRouter = {
      chooseReplicas: (candidates, { labels }) => {
        if (shown.length === 0) shown.push(...[...candidates].sort((one, other) => (one.id < other.id ? -1 : 1)));
        return [candidates.filter((replica) => replica.labels['zone'] === labels['zone'])];
      },
      onRequestRouted: ({ id }, request) => routed.set(request, id),
      onRequestCompleted: (_, request) => {
        completed += routed.delete(request) ? 1 : 0;
      },
    };
    await start({ router, labels: [{ zone: 'a' }, { zone: 'b' }] });
    const replicaOf = async (zone: string) =>
      (await engine.infer({ target: 'times-2', feeds: row, labels: { zone } })).replica;
    const zones = new Map(engine.status().replicas.map(({ id, labels }) => [labels['zone'], id]));
    for (const zone of ['a', 'b', 'a', 'b', 'b']) expect(await replicaOf(zone)).toBe(zones.get(zone));
    expect(shown.map(({ id, deployment }) => [id, deployment])).toEqual([
      ['default-0', 'default'],
      ['default-1', 'default'],
    ]);
    const [first] = shown;
    expect([...(first?.models.values() ?? [])]).toEqual(['loaded']);
    expect(first?.routingStats.throughput).toBeGreaterThan(0);
    expect(first?.freeModels).toBe(2);
    expect([routed.size, completed]).toEqual([0, 5]);
    expect(engine.status().replicas[0]?.routingStats).toMatchObject({ throughput: expect.any(Number) });
  });

  it('that fails is logged once for each kind and counted, and the default one decides', async () => {
    const router = { chooseReplicas: () => (logged.length === 0 ? [] : undefined) };
    await start({ router: router as never });
    const answers = await Promise.all(Array.from({ length: 20 }, () => engine.run('times-3', row)));
    for (let call = 0; call < 5; call += 1) await engine.run('times-3', row);
    expect(answers).toHaveLength(20);
    const failures = logged.filter((message) => message.includes('router'));
    expect(failures).toHaveLength(2);
    expect(await metric('router_errors_total', 'kind="ranked-none"')).toBeGreaterThan(0);
    expect(await metric('router_errors_total', 'kind="not-ranks"')).toBeGreaterThan(4);
  });

  it('can be exchanged while requests run, without one more thread', async () => {
    await start();
    let asked = 0;
    const own: RequestRouter = {
      chooseReplicas: (candidates) => {
        asked += 1;
        return [candidates];
      },
    };
    const states = engine.status().replicas.map(({ id, restarts }) => [id, restarts]);
    const running = Array.from({ length: 200 }, (_, index) => engine.run(names[index % 6] as string, row));
    for (const router of ['uniform', own, 'consistent-hash', own] as const) {
      await (await engine.deployments.update('default', { router, order: 'fifo' })).done;
      running.push(...Array.from({ length: 50 }, (_, index) => engine.run(names[index % 6] as string, row)));
    }
    expect(await Promise.all(running)).toHaveLength(400);
    expect(asked).toBeGreaterThan(0);
    expect(engine.status().replicas.map(({ id, restarts }) => [id, restarts])).toEqual(states);
  });

  it.each<[string, object]>([
    ['options.router', { router: 'fastest' }],
    ['options.router', { router: {} }],
    ['options.router', { router: { chooseReplicas: 'x' } }],
    ['options.order', { order: 'lifo' }],
    ['options.eviction', { eviction: 'random' }],
    ['options.routingStats.periodMs', { routingStats: { periodMs: 0 } }],
  ])('is refused by name: %s (%o)', async (path, options) => {
    await expect(createEngine(options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(path),
    });
  });

  it('labels of a request that are none are refused', async () => {
    await start();
    const error = await engine
      .run('times-1', row, { labels: { a: 1 } as never })
      .catch((cause: InfermuxError) => cause);
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringContaining('runOptions.labels') });
  });
});

it('with consistent-hash a shard key stays with its replica', async () => {
  await start({ router: 'consistent-hash', replicas: 3 });
  const homes = new Map<string, Set<string>>();
  for (let round = 0; round < 5; round += 1) {
    for (const shardKey of ['ada', 'bob', 'cleo', 'dan', 'eve']) {
      const { replica } = await engine.infer({ target: 'times-1', feeds: row, shardKey });
      homes.set(shardKey, (homes.get(shardKey) ?? new Set()).add(replica));
    }
  }
  for (const replicas of homes.values()) expect(replicas.size).toBe(1);
  expect(new Set([...homes.values()].flatMap((replicas) => [...replicas])).size).toBeGreaterThan(1);
});

it('cost-aware, the model that is asked for seldom leaves, though it was used last', async () => {
  await start({ replicas: 1, maxModelsPerReplica: 2, eviction: 'cost-aware' });
  for (let call = 0; call < 10; call += 1) await engine.run('times-1', row);
  await engine.run('times-2', row);
  await engine.run('times-3', row);
  const there = () => engine.status().replicas[0]?.models.map(({ id }) => id);
  await until(() => !there()?.includes('times-2'));
  expect(there()).toEqual(['times-1', 'times-3']);
});

/** Loads for a thousand requests of callers that send one after the other, to models of Zipf's popularity. */
async function loadsOf(router: RouterName): Promise<number> {
  const { replicas, models: count, sessions, callers = 1 } = TWELVE_MODELS;
  const requests = 900;
  const options = {
    models: 'native-models',
    replicas,
    maxModelsPerReplica: sessions,
    batching: false,
    router,
  } as const;
  engine = await createEngine(options);
  const ids = engine.models.list().map(({ id }) => id);
  expect(ids).toHaveLength(count);
  let total = 0;
  const ends = ids.map((_, rank) => {
    total += 1 / (rank + 1);
    return total;
  });
  let state = 7;
  const draw = () => {
    state = (state * 48_271) % 2_147_483_647;
    const point = (state / 2_147_483_647) * total;
    return ids[ends.findIndex((end) => point < end)] as string;
  };
  const feeds = { image: { dims: [1, 64], data: new Float32Array(64) } };
  let left = requests;
  const call = async () => {
    for (; left > 0; left -= 1) await engine.run(draw(), feeds);
  };
  await Promise.all(Array.from({ length: callers }, call));
  const loads = await metric('model_loads_total');
  await engine.close();
  return (1_000 * loads) / requests;
}

it('routers come in the same order on real threads as in the simulation, by the loads that they cost', async () => {
  const [simulated, real] = [new Map<RouterName, number>(), new Map<RouterName, number>()];
  for (const router of ROUTER_NAMES) {
    simulated.set(router, simulateEngine(TWELVE_MODELS, router, 'lru', 1).loads);
    real.set(router, await loadsOf(router));
  }
  const pairs = ROUTER_NAMES.flatMap((better) => ROUTER_NAMES.map((worse) => [better, worse] as const));
  // Others are as good as equal, and then either may be ahead. Loads take a few milliseconds here: waits as short as that pay
  // for none, so a router by request that is offered cold replicas only when they are worth it is as good as those by model.
  const differing = pairs.filter(
    ([better, worse]) =>
      worse !== 'throughput-aware' && (simulated.get(better) ?? 0) < 0.85 * (simulated.get(worse) ?? 0),
  );
  expect(differing.length).toBeGreaterThanOrEqual(9);
  for (const [better, worse] of differing) {
    expect(real.get(better), `${better} against ${worse}`).toBeLessThan(real.get(worse) ?? 0);
  }
  for (const router of ROUTER_NAMES) {
    const ratio = (real.get(router) ?? 0) / (simulated.get(router) ?? 1);
    expect(ratio, router).toBeLessThan(1.25);
    expect(ratio, router).toBeGreaterThan(0.5);
  }
}, 120_000);
