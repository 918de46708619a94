import { expect, it } from 'vitest';
import type { FakeReplica } from '../../support/fakes/fake-replica.js';
import { flush } from '../../support/flush.js';
import { RouterWorld } from '../../support/routing/router-world.js';

it('in order fifo a router is not asked while nothing is free', async () => {
  let replica: FakeReplica | undefined;
  let asked = 0;
  const world = new RouterWorld(
    {
      chooseReplicas: (candidates) => {
        asked += 1;
        const free = candidates.filter(({ ongoing, capacity }) => ongoing < capacity);
        // The thread goes on meanwhile.
        if (free.length === 0) replica?.step();
        return [free];
      },
    },
    { order: 'fifo' },
  );
  replica = world.add();
  for (let index = 0; index < 5; index += 1) world.submit(0);
  await world.settle();
  expect([world.answers.length, asked, world.faults]).toEqual([5, 5, []]);
});

it.each(['model', 'fifo'] as const)(
  'keys split no message where the router goes by models, in order %s',
  async (order) => {
    const world = new RouterWorld('power-of-two-choices', { order });
    world.add().runMs = 0.1;
    world.submit(0);
    await world.settle();
    // One runs, one is given ahead, and four go together.
    for (let index = 0; index < 6; index += 1) world.submit(0, { shardKey: `key-${index}` });
    await world.settle();
    expect(world.given).toHaveLength(1 + 3);
  },
);

it('in order fifo requests that come in one turn go as they came too', async () => {
  const world = new RouterWorld('power-of-two-choices', { order: 'fifo', defers: true });
  world.add(9);
  for (const model of [0, 1, 0, 2]) world.submit(model);
  world.submit(3, { priority: 1 });
  world.clock.runDeferred();
  await world.settle();
  expect(world.given.map((line) => line.split('>')[0])).toEqual(['m0', 'm1', 'm0', 'm2', 'm3']);
});

it('in order fifo requests are placed as they came, whatever their model and its priority', async () => {
  const world = new RouterWorld('least-loaded', { order: 'fifo' });
  const replica = world.add(9);
  world.submit(0);
  for (const model of [1, 0, 2, 1, 0]) world.submit(model);
  world.submit(3, { priority: 1 });
  expect(world.given).toEqual(['m0>r0']);
  await world.settle();
  expect(world.given.map((line) => line.split('>')[0])).toEqual(['m0', 'm1', 'm0', 'm2', 'm1', 'm0', 'm3']);
  expect(replica.loads).toHaveLength(4);
});

it('in order fifo a model that is tried for the first time holds up no other', async () => {
  const world = new RouterWorld('power-of-two-choices', { order: 'fifo' });
  const [, second] = [world.add(), world.add()];
  for (const model of [0, 0, 0, 1, 1]) world.submit(model);
  for (let step = 0; step < 8; step += 1) {
    second?.step();
    await flush();
  }
  // The first replica is still loading.
  expect(world.given).toEqual(['m0>r0', 'm1>r1', 'm1>r1']);
  expect(world.answers).toHaveLength(2);
  await world.settle();
  expect(world.answers).toHaveLength(5);
});
