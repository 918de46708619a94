/** What must hold for every router, whoever wrote it: through the dispatcher, with replicas without threads. */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { type RequestRouter, ROUTER_NAMES, type RouterName } from '../../../dist/contracts/request-router.js';
import { documentedRouter } from '../../support/documented-router.js';
import type { FakeReplica } from '../../support/fakes/fake-replica.js';
import { flush } from '../../support/flush.js';
import { type Step, step } from '../../support/routing/router-steps.js';
import { MODELS, RouterWorld } from '../../support/routing/router-world.js';

let documented: RequestRouter;

beforeAll(async () => {
  documented = await documentedRouter();
});

const ROUTERS: readonly (readonly [string, () => RouterName | RequestRouter])[] = [
  ...ROUTER_NAMES.map((name) => [name, () => name] as const),
  ['the documented one', () => documented],
];

describe.each(ROUTERS)('router %s', (_, routerOf) => {
  it.each(['model', 'fifo'] as const)(
    'answers every request, whatever happens to replicas, in order %s',
    async (order) => {
      await fc.assert(
        fc.asyncProperty(fc.array(step, { maxLength: 80, size: 'max' }), fc.nat(), async (steps, seed) => {
          let state = (seed % 2_147_483_646) + 1;
          const random = () => {
            state = (state * 48_271) % 2_147_483_647;
            return state / 2_147_483_647;
          };
          const world = new RouterWorld(routerOf(), { order, random });
          for (let index = 0; index < 4; index += 1) world.add();
          for (const each of steps as Step[]) {
            if (each.kind === 'submit') {
              const { model, shardKey, priority } = each;
              world.submit(model, shardKey === undefined ? { priority } : { shardKey, priority });
            } else if (each.kind === 'step') world.replicas[each.replica]?.step();
            else if (each.kind === 'crash') await world.crash(each.replica);
            else world.clock.advance(each.milliseconds);
            await flush();
          }
          await world.settle();
          expect(world.answers).toHaveLength(world.submitted);
          // A second crash, or one in a load, is an answer too; anything else is the router's doing.
          const codes = world.answers.map((answer) => (answer === 'answered' ? 'answered' : answer.code));
          expect(codes.filter((code) => !['answered', 'REPLICA_FAILED', 'MODEL_LOAD_FAILED'].includes(code))).toEqual(
            [],
          );
          expect(world.faults).toEqual([]);
        }),
        { numRuns: 60 },
      );
    },
  );

  it('uses all replicas when many requests come at once', async () => {
    const world = new RouterWorld(routerOf(), { random: Math.random });
    for (let index = 0; index < 4; index += 1) world.add();
    for (let index = 0; index < 200; index += 1) world.submit(index, { shardKey: `key-${index}` });
    await world.settle();
    expect(world.answers).toHaveLength(200);
    expect(new Set(world.given.map((line) => line.split('>')[1])).size).toBe(4);
  });

  it('lets a request wait while all replicas are busy, and is asked again when one frees', async () => {
    const world = new RouterWorld(routerOf());
    const [first, second] = [world.add(), world.add()];
    for (const replica of [first, second]) {
      for (const { key } of MODELS) replica.models.set(key, 'loaded');
      for (const { key } of MODELS) world.dispatcher.modelChanged(replica, key);
    }
    for (let index = 0; index < 6; index += 1) world.submit(0, { shardKey: `key-${index}` });
    // No more than one for each; and whoever has a key may wait for its own.
    const { length } = world.given;
    expect(length).toBeGreaterThan(0);
    expect(length).toBeLessThanOrEqual(2);
    world.clock.advance(500);
    expect(world.given).toHaveLength(length);
    for (const replica of [first, second]) replica.step();
    await flush();
    expect(world.given.length).toBeGreaterThan(length);
    await world.settle();
    expect(world.answers).toHaveLength(6);
  });

  it('can be exchanged for any other while requests wait', async () => {
    const world = new RouterWorld('power-of-two-choices');
    for (let index = 0; index < 3; index += 1) world.add();
    for (let index = 0; index < 30; index += 1) world.submit(index);
    const limits = { maxOngoingRequests: -1, maxQueuedRequests: -1, batching: false } as const;
    world.dispatcher.configure({ ...limits, router: routerOf() });
    for (let index = 0; index < 30; index += 1) world.submit(index);
    world.replicas[0]?.step();
    world.dispatcher.configure({ ...limits, router: 'least-loaded', order: 'fifo' });
    await world.settle();
    expect(world.answers).toEqual(Array.from({ length: 60 }, () => 'answered'));
  });
});

it.each(ROUTERS)('a replica that leaves strands no request, with router %s', async (_, routerOf) => {
  for (let index = 0; index < 6; index += 1) {
    const world = new RouterWorld(routerOf());
    const replicas = [world.add(), world.add()];
    for (const replica of replicas) {
      for (const { key } of MODELS.slice(0, 2)) replica.models.set(key, 'loaded');
      for (const { key } of MODELS.slice(0, 2)) world.dispatcher.modelChanged(replica, key);
    }
    for (const model of [0, 1, 2, 3]) world.submit(model, { shardKey: `key-${index}` });
    const [leaving, staying] = replicas as [FakeReplica, FakeReplica];
    world.dispatcher.removeReplica(leaving);
    world.replicas.splice(0, 1);
    // What it was given it finishes.
    for (let round = 0; round < 50; round += 1) {
      for (const replica of [leaving, staying]) replica.step();
      await flush();
    }
    expect(world.answers).toHaveLength(4);
  }
});

it.each(ROUTERS)('a replica that loads ahead keeps no model from the others, with router %s', async (_, routerOf) => {
  const world = new RouterWorld(routerOf());
  const [first] = [world.add(), world.add(), world.add()];
  void first.load(MODELS[5] as (typeof MODELS)[0]);
  world.submit(0);
  world.submit(1);
  // The home of a key may be the one that loads.
  world.clock.advance(1_000);
  if (routerOf() !== 'consistent-hash') expect(world.given).toHaveLength(2);
  await world.settle();
  expect(world.answers).toHaveLength(2);
});
