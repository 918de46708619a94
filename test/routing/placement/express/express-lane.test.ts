import { beforeEach, describe, expect, it } from 'vitest';
import { InfermuxError } from '../../../../dist/common/errors.js';
import type { RoutedModel } from '../../../../dist/routing/pending-request.js';
import type { FakeReplica } from '../../../support/fakes/fake-replica.js';
import { fakeModel } from '../../../support/fakes/fake-requests.js';
import { TimedWorld } from '../../../support/routing/timed-world.js';

const [SHORT, OTHER, LONG] = [fakeModel('short'), fakeModel('other'), fakeModel('long')];
const RUN_MS = { short: 1, other: 2, long: 100 };

let world: TimedWorld;
let replicas: FakeReplica[];

beforeEach(() => start());

function start(options: ConstructorParameters<typeof TimedWorld>[1] = {}): void {
  world = new TimedWorld({ ...RUN_MS }, options);
  replicas = [world.add('r0'), world.add('r1')];
}

/** Callers keep all replicas busy with long runs; the returned function ends that. */
function keepBusy(callers = 4): () => void {
  let isOver = false;
  const call = async () => {
    while (!isOver) await world.submit(LONG).catch(() => undefined);
  };
  for (let caller = 0; caller < callers; caller += 1) void call();
  return () => {
    isOver = true;
  };
}

/** Lets short runs wait behind long ones until the dispatcher wants an express replica, and adds one. */
async function startExpress(models: readonly RoutedModel[] = [SHORT], maxModels = 10): Promise<FakeReplica> {
  const until = world.clock.now() + 4_000;
  for (const model of models) void world.call(model, { until, pauseMs: 10 });
  while (world.clock.now() < until) await world.tick();
  expect(world.needs).toEqual([true]);
  const express = world.addExpress({ maxModels });
  await world.pass(50);
  return express;
}

describe('an express replica', () => {
  it('is needed when short runs have waited behind long ones, and serves them at once', async () => {
    const end = keepBusy();
    const before = world.call(SHORT, { until: 2_000, pauseMs: 10 });
    await world.pass(2_000);
    expect(world.needs).toEqual([true]);
    const express = world.addExpress();
    await world.pass(200);
    expect(express.loads).toEqual([SHORT.key]);
    const after = world.call(SHORT, { until: 10_000, pauseMs: 10 });
    await world.pass(8_200);
    expect(Math.max(...(await before).map(({ queueMs }) => queueMs))).toBeGreaterThan(40);
    const waits = (await after).map(({ queueMs }) => queueMs);
    expect(waits.length).toBeGreaterThan(400);
    expect(Math.max(...waits)).toBeLessThanOrEqual(1);
    expect((await after).some(({ replica }) => replica === 'express')).toBe(true);
    // Long runs never go there, and no other need was announced.
    expect(express.loads).toEqual([SHORT.key]);
    expect(world.needs).toEqual([true]);
    end();
    await world.settle();
  });

  it('is not needed for a wait or two, nor when the long runs leave a replica idle', async () => {
    const end = keepBusy(1);
    void world.call(SHORT, { until: 5_000, pauseMs: 10 });
    await world.pass(5_000);
    end();
    await world.settle();
    expect(world.needs).toEqual([]);
    const endAgain = keepBusy();
    await world.pass(30);
    void world.submit(SHORT);
    await world.pass(500);
    endAgain();
    await world.settle();
    expect(world.needs).toEqual([]);
  });

  it('is not needed by a model that waits behind its own requests, nor beside runs of much the same length', async () => {
    world.runMs['other'] = 15;
    for (let caller = 0; caller < 8; caller += 1) void world.call(SHORT, { until: 5_000 });
    for (let caller = 0; caller < 8; caller += 1) void world.call(OTHER, { until: 5_000 });
    world.runMs['short'] = 4;
    await world.pass(5_000);
    await world.settle();
    expect(world.needs).toEqual([]);
  });

  it.each([{ order: 'fifo' }, { router: 'round-robin' }] as const)('is not needed with %j', async (options) => {
    start(options);
    const end = keepBusy();
    void world.call(SHORT, { until: 3_000, pauseMs: 10 });
    await world.pass(3_000);
    end();
    await world.settle();
    expect(world.needs).toEqual([]);
  });

  it('is not needed by a model that is alone, whose runs are slow for a moment and then quick again', async () => {
    for (let caller = 0; caller < 8; caller += 1) void world.call(SHORT, { until: 5_000 });
    for (let time = 0; time < 5_000; time += 250) {
      world.runMs['short'] = time % 500 === 0 ? 60 : 1;
      await world.pass(250);
    }
    await world.settle();
    expect(world.needs).toEqual([]);
  });

  it('is not needed any more when nothing went there for half a minute, and is needed again when waits have paid', async () => {
    const end = keepBusy();
    await startExpress();
    end();
    await world.settle();
    await world.pass(29_000);
    expect(world.needs).toEqual([true]);
    await world.pass(2_000);
    expect(world.needs).toEqual([true, false]);
    const endAgain = keepBusy();
    void world.call(SHORT, { until: world.clock.now() + 2_000, pauseMs: 10 });
    await world.pass(2_000);
    expect(world.needs).toEqual([true, false, true]);
    endAgain();
    await world.settle();
  });

  it('is needed as long as short runs wait, though none can be started', async () => {
    const end = keepBusy();
    void world.call(SHORT, { until: 60_000, pauseMs: 10 });
    await world.pass(60_000);
    expect(world.needs).toEqual([true]);
    end();
    await world.settle();
  });

  it.each([
    { shortEvery: 10, longCallers: 4 },
    { shortEvery: 397, longCallers: 3 },
    { shortEvery: 2_977, longCallers: 4 },
    { shortEvery: 7_013, longCallers: 3 },
  ])(
    'neither comes and goes at a steady load: $shortEvery ms, $longCallers long',
    async ({ shortEvery, longCallers }) => {
      const end = keepBusy(longCallers);
      void world.call(SHORT, { until: 120_000, pauseMs: shortEvery });
      let express: FakeReplica | undefined;
      for (let second = 0; second < 120; second += 1) {
        await world.pass(1_000);
        if (world.needs.at(-1) === true) express ??= world.addExpress();
      }
      expect(world.needs.length).toBeLessThanOrEqual(1);
      expect(express?.loads.length ?? 0).toBeLessThanOrEqual(1);
      end();
      await world.settle();
    },
  );
});

describe('a model', () => {
  it('is short up to a tenth of the longest run, and stays short up to a fifth', async () => {
    const end = keepBusy();
    world.runMs['other'] = 12;
    const express = await startExpress([SHORT, OTHER]);
    expect(express.loads).toEqual([SHORT.key]);
    world.runMs['other'] = 8;
    void world.call(OTHER, { until: world.clock.now() + 4_000, pauseMs: 5 });
    await world.pass(4_100);
    expect(express.loads).toEqual([SHORT.key, OTHER.key]);
    world.runMs['other'] = 15;
    const still = world.call(OTHER, { until: world.clock.now() + 3_000 });
    await world.pass(3_200);
    expect((await still).slice(-20).some(({ replica }) => replica === 'express')).toBe(true);
    world.runMs['other'] = 30;
    const slow = world.call(OTHER, { until: world.clock.now() + 5_000 });
    await world.pass(5_500);
    expect((await slow).slice(20).map(({ replica }) => replica)).not.toContain('express');
    end();
    await world.settle();
  });

  it('that turns slow leaves the express replica at once, and its session is the first to evict', async () => {
    const end = keepBusy();
    const express = await startExpress([SHORT, OTHER], 2);
    expect([...express.models.keys()].sort()).toEqual([OTHER.key, SHORT.key]);
    world.runMs['other'] = 100;
    const slow = world.call(OTHER, { until: world.clock.now() + 3_000 });
    void world.call(SHORT, { until: world.clock.now() + 3_000, pauseMs: 10 });
    await world.pass(3_200);
    expect((await slow).filter(({ replica }) => replica === 'express').length).toBeLessThanOrEqual(2);
    const third = fakeModel('third');
    void world.call(third, { until: world.clock.now() + 3_000, pauseMs: 10 });
    await world.pass(3_200);
    expect(world.spares.at(-1)).toEqual([OTHER.key]);
    expect(express.loads.slice(2)).toEqual([third.key]);
    end();
    await world.settle();
  });

  it('does not take the place of another that is in use', async () => {
    const end = keepBusy();
    const express = await startExpress([SHORT, OTHER], 1);
    const until = world.clock.now() + 12_000;
    const [first] = [...express.models.keys()];
    for (const model of [SHORT, OTHER]) void world.call(model, { until, pauseMs: 10 });
    await world.pass(12_000);
    expect(express.loads).toEqual([first]);
    // It is used no more: the other one takes its place.
    const unused = first === SHORT.key ? OTHER : SHORT;
    void world.call(unused, { until: until + 14_000, pauseMs: 10 });
    await world.pass(14_000);
    expect(express.loads).toEqual([first, unused.key]);
    end();
    await world.settle();
  });

  it('is not loaded while its last load failed a short while ago', async () => {
    const end = keepBusy();
    void world.call(SHORT, { until: world.clock.now() + 3_000, pauseMs: 10 });
    await world.pass(2_000);
    world.dispatcher.loads.recordFailure(SHORT, new InfermuxError('MODEL_LOAD_FAILED', 'broken'));
    const express = world.addExpress();
    await world.pass(500);
    expect(express.models.size).toBe(0);
    end();
    await world.settle();
    expect(world.errors).toEqual([]);
  });
});

describe('requests', () => {
  it('are not lost when the express replica crashes, stops, or loses the model', async () => {
    const end = keepBusy();
    const express = await startExpress();
    const until = world.clock.now() + 3_000;
    for (let caller = 0; caller < 3; caller += 1) void world.call(SHORT, { until });
    await world.pass(100);
    while (express.dispatches === 0) await world.tick();
    await world.crash(express);
    await world.pass(500);
    const second = world.addExpress();
    await world.pass(1_000);
    expect(second.loads).toEqual([SHORT.key]);
    while (second.dispatches > 0) await world.tick();
    second.models.delete(SHORT.key);
    world.dispatcher.modelChanged(second, SHORT.key);
    await world.pass(100);
    world.dispatcher.removeReplica(second);
    await world.pass(3_000);
    end();
    await world.settle();
    expect(world.errors).toEqual([]);
    expect(world.answered).toBe(world.submitted);
    expect(world.needs).toEqual([true]);
  });

  it('that lost a replica do not go to the express replica', async () => {
    const end = keepBusy();
    const express = await startExpress();
    const answer = world.submit(SHORT);
    while (express.dispatches === 0) await world.tick();
    await world.crash(express);
    const second = world.addExpress();
    second.models.set(SHORT.key, 'loaded');
    world.dispatcher.modelChanged(second, SHORT.key);
    expect(second.dispatches).toBe(0);
    await world.pass(500);
    expect((await answer).replica).not.toBe('express');
    const next = world.submit(SHORT);
    await world.pass(5);
    expect((await next).replica).toBe('express');
    end();
    await world.settle();
  });

  it('are not given ahead behind a long run that may end late', async () => {
    const end = keepBusy();
    const express = await startExpress();
    const ahead: string[] = [];
    world.onGiven = (to, { model }) => {
      if (to !== express && to.dispatches > 1) ahead.push(model.id);
    };
    for (let caller = 0; caller < 4; caller += 1) void world.call(SHORT, { until: world.clock.now() + 5_000 });
    await world.pass(5_000);
    expect(ahead).toContain('long');
    expect(ahead).not.toContain('short');
    end();
    await world.settle();
  });

  it('find the express replica neither in copies nor in the end of an outage', async () => {
    const end = keepBusy();
    const express = await startExpress();
    void world.call(SHORT, { until: world.clock.now() + 2_000, pauseMs: 3 });
    await world.pass(2_000);
    expect(world.dispatcher.routingStats(express)?.runMs).toBe(1);
    end();
    await world.settle();
    for (const replica of replicas) world.dispatcher.removeReplica(replica);
    world.dispatcher.removeReplica(express);
    const outage = new InfermuxError('REPLICA_FAILED', 'no replica can be started');
    world.dispatcher.declareOutage(outage);
    world.addExpress();
    await expect(world.submit(SHORT)).rejects.toThrow('no replica can be started');
  });
});
