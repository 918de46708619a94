import { expect, it } from 'vitest';
import type { RequestRouter } from '../../../dist/contracts/request-router.js';
import type { FakeReplica } from '../../support/fakes/fake-replica.js';
import { flush } from '../../support/flush.js';
import { MODELS, RouterWorld } from '../../support/routing/router-world.js';

/** To the replica whose id the key begins with, or to any. */
const byKey: RequestRouter = {
  spill: 'router',
  chooseReplicas: (candidates, { shardKey }) => [
    candidates.filter(({ id }) => shardKey === 'any' || shardKey?.startsWith(id)),
  ],
};

it('a request that has to wait holds up none that may go elsewhere', async () => {
  const world = new RouterWorld({
    spill: 'router',
    chooseReplicas: (candidates, { labels }) => [
      candidates.filter((replica) => replica.labels['zone'] === labels['zone']),
    ],
  });
  const [first, second] = [world.add(), world.add()];
  first.labels = { zone: 'a' };
  second.labels = { zone: 'b' };
  world.dispatcher.removeReplica(first);
  world.dispatcher.removeReplica(second);
  for (const replica of [first, second]) world.dispatcher.addReplica(replica);
  for (let index = 0; index < 100; index += 1) world.submit(0, { labels: { zone: 'a' } });
  expect(world.given).toEqual(['m0>r0']);
  first.step(); // it loads the model
  world.submit(0, { labels: { zone: 'b' } });
  expect(world.given).toEqual(['m0>r0', 'm0>r1']);
  await world.settle();
  expect(world.answers).toHaveLength(101);
  expect(world.given.filter((line) => line === 'm0>r1')).toHaveLength(1);
});

it('nor do many that wait hold up those behind them for ever', async () => {
  const world = new RouterWorld(byKey);
  const [first, second] = [world.add(), world.add()];
  for (let index = 0; index < 200; index += 1) world.submit(0, { shardKey: `r0 ${index}` });
  first.step(); // it loads the model
  for (let index = 0; index < 100; index += 1) world.submit(0, { shardKey: `r1 ${index}` });
  // The first never gets anywhere.
  for (let round = 0; round < 2_000; round += 1) {
    second.step();
    await flush();
  }
  expect(world.given.filter((line) => line.endsWith('r1'))).toHaveLength(100);
  await world.settle();
  expect(world.answers).toHaveLength(300);
});

it('a model that is cold gets its turn though requests for others never cease', async () => {
  for (const router of ['uniform', 'throughput-aware', 'consistent-hash', 'power-of-two-choices'] as const) {
    const world = new RouterWorld(router);
    const replica = world.add();
    replica.runMs = 0.1;
    replica.models.set(MODELS[0]?.key ?? '', 'loaded');
    world.dispatcher.modelChanged(replica, MODELS[0]?.key ?? '');
    for (let call = 0; call < 20; call += 1) {
      world.submit(0);
      replica.step();
      await flush();
    }
    world.submit(0);
    world.submit(1);
    // One that waits behind it, for the model that never ceases.
    world.submit(0);
    for (let round = 0; round < 100; round += 1) {
      replica.step();
      // Before the answer that the counters show already has been handled.
      world.submit(0);
      await flush();
    }
    expect(world.given, router).toContain('m1>r0');
  }
});

it.each([0, 1, 2, 3, 4, 5, 6])(
  'a replica that frees %i turns into a round finds the request that wants it',
  async (turns) => {
    const world = new RouterWorld(byKey, { defers: true });
    for (const replica of [world.add(), world.add(), world.add()]) {
      for (const { key } of MODELS) replica.models.set(key, 'loaded');
      for (const { key } of MODELS) world.dispatcher.modelChanged(replica, key);
    }
    for (const shardKey of ['r0', 'r1']) world.submit(0, { shardKey });
    world.clock.runDeferred();
    expect(world.given).toEqual(['m0>r0', 'm0>r1']);
    // It is the first of all, and those behind it are more than are asked for in a turn of the event loop.
    world.submit(0, { shardKey: 'r1 again' });
    for (let index = 0; index < 200; index += 1) world.submit(1, { shardKey: `r0 ${index}` });
    for (let turn = 0; turn < turns; turn += 1) world.clock.runDeferred();
    world.replicas[1]?.step();
    for (let turn = 0; turn < 30; turn += 1) {
      await flush();
      world.clock.runDeferred();
    }
    expect(world.given).toEqual(['m0>r0', 'm0>r1', 'm0>r1']);
  },
);

it.each([1, 100])('no newcomers pass by %i at the front that want one replica alone', async (atFront) => {
  const world = new RouterWorld(byKey);
  const replicas = [world.add(), world.add()];
  for (const shardKey of ['r0', 'r1']) world.submit(0, { shardKey });
  for (let index = 0; index < atFront; index += 1) world.submit(0, { shardKey: `r0 front ${index}` });
  // Callers that always have some waiting, for whichever replica is free.
  const send = () => world.submit(0, { shardKey: 'any', labels: { of: String(world.submitted) } });
  for (let index = 0; index < 10; index += 1) send();
  const fronts = () => world.keys.filter((key) => key?.startsWith('r0 front')).length;
  for (let round = 0; round < 600 && fronts() < atFront; round += 1) {
    replicas[(round + 1) % 2]?.step();
    await flush();
    send();
  }
  expect(fronts()).toBe(atFront);
});

it('one that comes is not asked for before those of other models that have waited longer, whatever the router thinks by now', async () => {
  let isWilling = false;
  const world = new RouterWorld({
    chooseReplicas: (candidates) => [candidates.filter(({ id }) => id === 'r0' || isWilling)],
  });
  world.add();
  world.add();
  world.submit(0);
  world.submit(1);
  isWilling = true;
  world.submit(2);
  expect(world.given).toEqual(['m0>r0', 'm1>r1']);
  await world.settle();
  expect(world.answers).toHaveLength(3);
});

it('one that goes along with another hides none that is behind them', async () => {
  let isOpen = false;
  const router: RequestRouter = {
    chooseReplicas: (candidates, request) =>
      isOpen ? byKey.chooseReplicas(candidates, request) : [candidates.filter(({ id }) => id === 'r0')],
  };
  const world = new RouterWorld(router);
  for (const replica of [world.add(), world.add(), world.add()]) {
    replica.runMs = 0.1;
    replica.models.set(MODELS[0]?.key ?? '', 'loaded');
    world.dispatcher.modelChanged(replica, MODELS[0]?.key ?? '');
  }
  world.submit(0);
  await world.settle();
  // One runs, and the others wait for the same one.
  for (let index = 0; index < 8; index += 1) world.submit(0, { shardKey: `r0 ${index}` });
  for (const shardKey of ['r1', 'r1', 'r2']) world.submit(0, { shardKey });
  isOpen = true;
  const limits = { maxOngoingRequests: -1, maxQueuedRequests: -1, batching: false } as const;
  world.dispatcher.configure({ ...limits, router });
  expect(world.given).toEqual(['m0>r0', 'm0>r0', 'm0>r1', 'm0>r2']);
});

it('a model that others have is loaded at last by the one that its request is for, though that is never idle', async () => {
  const world = new RouterWorld(byKey);
  const [first, second] = [world.add(), world.add()] as [FakeReplica, FakeReplica];
  second.runMs = 0.1;
  for (const [replica, model] of [
    [first, 0],
    [second, 1],
  ] as const) {
    replica.models.set(MODELS[model]?.key ?? '', 'loaded');
    world.dispatcher.modelChanged(replica, MODELS[model]?.key ?? '');
  }
  for (let call = 0; call < 20; call += 1) {
    world.submit(1, { shardKey: 'r1' });
    second.step();
    await flush();
  }
  for (let call = 0; call < 3; call += 1) world.submit(1, { shardKey: 'r1' });
  world.submit(0, { shardKey: 'r1' });
  for (let round = 0; round < 3_000; round += 1) {
    world.submit(1, { shardKey: 'r1' });
    second.step();
    await flush();
    world.clock.advance(1);
  }
  expect(world.given).toContain('m0>r1');
});

it('a round that another order replaced does not go on', async () => {
  const world = new RouterWorld(byKey, { defers: true });
  const [first, second] = [world.add(), world.add(), world.add()];
  for (const shardKey of ['r0', 'r1']) world.submit(0, { shardKey });
  world.clock.runDeferred();
  first.step(); // it loads the model
  world.clock.runDeferred();
  for (let index = 0; index < 200; index += 1) world.submit(0, { shardKey: `r0 ${index}` });
  world.submit(0, { shardKey: 'r1 last' });
  world.clock.runDeferred();
  const limits = { maxOngoingRequests: -1, maxQueuedRequests: -1, batching: false } as const;
  world.dispatcher.configure({ ...limits, router: byKey, order: 'fifo' });
  while (second.dispatches > 0) second.step();
  for (let turn = 0; turn < 30; turn += 1) {
    await flush();
    world.clock.runDeferred();
  }
  // The first of all waits for the other one.
  expect(world.given).toEqual(['m0>r0', 'm0>r1']);
});

it('a router is asked again after a while, although nothing else happens', async () => {
  const patient = new RouterWorld({
    chooseReplicas: (candidates, { waitedMs }) => [candidates.filter(({ id }) => id === 'r0' || waitedMs >= 20)],
  });
  const [first, second] = [patient.add(), patient.add()];
  for (const replica of [first, second]) {
    replica.models.set(MODELS[0]?.key ?? '', 'loaded');
    patient.dispatcher.modelChanged(replica, MODELS[0]?.key ?? '');
  }
  patient.submit(0);
  patient.submit(0);
  expect(patient.given).toEqual(['m0>r0']);
  patient.clock.advance(40);
  expect(patient.given).toEqual(['m0>r0', 'm0>r1']);
});
