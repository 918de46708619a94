import { describe, expect, it } from 'vitest';
import type { PendingRequestView, RequestOutcome, RequestRouter } from '../../../dist/contracts/request-router.js';
import { fakeModel, fakeRequest } from '../../support/fakes/fake-requests.js';
import { flush } from '../../support/flush.js';
import { MODELS, RouterWorld } from '../../support/routing/router-world.js';

const tensor = (...dims: number[]) => {
  const data = new Float32Array(dims.reduce((left, right) => left * right, 1));
  return { type: 'float32', dims, data } as const;
};

describe('a router sees what a request is', () => {
  const seen: PendingRequestView[] = [];
  const router: RequestRouter = {
    chooseReplicas: (candidates, request) => {
      seen.push(request);
      return [candidates];
    },
  };
  const viewOf = async (own: Partial<ReturnType<typeof fakeRequest>>) => {
    const world = new RouterWorld(router);
    world.add();
    const done = world.dispatcher.submit({ ...fakeRequest(fakeModel('m')), ...own }, () => 'answered');
    await world.settle();
    world.replicas[0]?.step();
    world.replicas[0]?.step();
    await done;
    return seen.at(-1) as PendingRequestView;
  };

  it('its bytes, its rows and its hints', async () => {
    const hints = Object.freeze({ tokens: 12, tenant: 'ada', cheap: true });
    const view = await viewOf({ feeds: { x: tensor(3, 4), y: tensor(3) }, hints });
    expect(view).toMatchObject({ inputBytes: 4 * (12 + 3), rows: 3, hints });
    expect(Object.isFrozen(view)).toBe(true);
    expect(Object.isFrozen(view.hints)).toBe(true);
  });

  it('no rows where the feeds differ, and two bytes for each character', async () => {
    const x = { type: 'string', dims: [2], data: ['ab', 'cde'] } as const;
    expect(await viewOf({ feeds: { x, y: tensor(3) } })).toMatchObject({ inputBytes: 2 * 5 + 12, rows: 0, hints: {} });
  });

  it("the bytes of a handler's request, wherever they are in it", async () => {
    const image = new Uint8Array(100);
    const payload = {
      ...{ value: { images: [image, image], text: 'four', size: 7 }, abandoned: undefined, path: [], isShadow: false },
      ...{ deadline: undefined, stream: undefined, terms: undefined },
    };
    expect(await viewOf({ payload })).toMatchObject({ inputBytes: 108, rows: 1 });
  });
});

describe('requests that a router could tell apart', () => {
  it.each<[string, Partial<ReturnType<typeof fakeRequest>>, boolean]>([
    ['alike', {}, true],
    ['with other hints', { hints: { tokens: 2 } }, false],
    ['of other rows', { feeds: { x: tensor(2, 2) } }, false],
    ['of other bytes', { feeds: { x: tensor(1, 8) } }, false],
    ['with other labels', { labels: { zone: 'b' } }, false],
  ])('%s go together: a router of the user is asked for each, a built-in one is not', async (_, own, together) => {
    for (const router of [
      'uniform',
      { spill: 'router', chooseReplicas: (all) => [all] } satisfies RequestRouter,
    ] as const) {
      const world = new RouterWorld(router, { defers: true });
      const replica = world.add();
      const model = MODELS[0] as (typeof MODELS)[0];
      replica.models.set(model.key, 'loaded');
      world.dispatcher.modelChanged(replica, model.key);
      const base = { ...fakeRequest(model, { x: tensor(1, 4) }), hints: { tokens: 1 }, labels: { zone: 'a' } };
      // Until the first answer, requests of unknown length go one by one.
      const answers = [world.dispatcher.submit(base, () => 'answered')];
      world.clock.runDeferred();
      replica.runMs = 0.1;
      replica.step();
      await flush();
      answers.push(...[base, { ...base, ...own }].map((each) => world.dispatcher.submit(each, () => 'answered')));
      world.clock.runDeferred();
      const isAsBuiltIn = router === 'uniform' && own.labels === undefined;
      // The second is given ahead, since runs are short.
      expect(replica.dispatches).toBe(together || isAsBuiltIn ? 1 : 2);
      for (let step = 0; step < 5; step += 1) {
        replica.step();
        await flush();
        world.clock.runDeferred();
      }
      await Promise.all(answers);
    }
  });
});

describe('a router is told what became of a request', () => {
  const outcomesOf = async (act: (world: RouterWorld) => Promise<void>) => {
    const outcomes: RequestOutcome[] = [];
    const world = new RouterWorld({
      chooseReplicas: (candidates) => [candidates],
      onRequestCompleted: (_replica, _request, outcome) => outcomes.push(outcome),
    });
    world.add();
    world.submit(0);
    await act(world);
    return outcomes;
  };

  it('that it succeeded, and how long it waited and ran', async () => {
    const outcomes = await outcomesOf(async (world) => {
      await world.settle();
      world.submit(0);
      world.submit(0);
      world.clock.advance(7);
      await world.settle();
    });
    expect(outcomes).toHaveLength(3);
    expect(outcomes[0]).toEqual({ ok: true, code: undefined, runMs: 10, queueMs: 0, batchSize: 1 });
    expect(outcomes[2]?.queueMs).toBeGreaterThanOrEqual(7);
  });

  it('that its replica died, and then that the next one answered', async () => {
    const outcomes = await outcomesOf(async (world) => {
      world.replicas[0]?.step(); // it loads the model
      await world.crash(0);
      await world.settle();
    });
    expect(outcomes).toMatchObject([
      { ok: false, code: 'REPLICA_FAILED', runMs: 0, batchSize: 0 },
      { ok: true, runMs: 10 },
    ]);
  });
});

it.each([
  ['a promise', (async () => []) as never],
  ['ranks of promises', ((all: unknown[]) => [all.map(async (each) => each)]) as never],
])('a router that returns %s is told what to do instead', async (_, chooseReplicas) => {
  const world = new RouterWorld({ chooseReplicas });
  world.add();
  world.submit(0);
  await world.settle();
  expect(world.answers).toEqual(['answered']);
  expect(world.faults[0]).toContain('must answer at once: look up in a hook or a timer, and rank from what is known');
});

describe('a cold replica', () => {
  /** One replica has the model, and is busy; the other has others. */
  const start = (router: RequestRouter) => {
    const world = new RouterWorld(router);
    const [warm, cold] = [world.add(1), world.add(1)];
    const [own, other] = MODELS as [(typeof MODELS)[0], (typeof MODELS)[0]];
    for (const [replica, { key }] of [
      [warm, own],
      [cold, other],
    ] as const) {
      replica.models.set(key, 'loaded');
      world.dispatcher.modelChanged(replica, key);
      world.dispatcher.modelLoaded(replica, own, 100, { inputs: [], outputs: [], omittedOutputs: [] });
    }
    world.submit(0);
    world.submit(0);
    return world;
  };
  const anywhere: RequestRouter = { chooseReplicas: (candidates) => [candidates] };

  it('is a candidate when the waiting has paid for the load, and not before', () => {
    const world = start(anywhere);
    expect(world.given).toEqual(['m0>r0']);
    world.clock.advance(99);
    expect(world.given).toEqual(['m0>r0']);
    world.clock.advance(2);
    expect(world.given).toEqual(['m0>r0', 'm0>r1']);
  });

  it('always is one for a router that decides itself', () => {
    expect(start({ ...anywhere, spill: 'router' }).given).toEqual(['m0>r0', 'm0>r1']);
  });

  it('may be waited for: a router that wants nothing else ranks none, which is no fault', () => {
    const world = start({ chooseReplicas: (candidates) => [candidates.filter(({ id }) => id === 'r1')] });
    expect(world.given).toEqual([]);
    world.clock.advance(1_000);
    expect(world.given).toEqual(['m0>r1']);
    expect(world.faults).toEqual([]);
  });

  it('a router whose spill is neither is told so', () => {
    expect(start({ ...anywhere, spill: 'mine' as never }).faults).toEqual([
      expect.stringContaining("spill must be 'engine' or 'router'"),
    ]);
  });
});
