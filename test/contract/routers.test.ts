/** What must hold for every router, whoever wrote it: through the dispatcher, with replicas without threads. */
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import type { InfermuxError } from '../../dist/common/errors.js';
import {
  type Order,
  type PendingRequestView,
  type ReplicaView,
  type RequestRouter,
  ROUTER_NAMES,
  type RouterName,
} from '../../dist/contracts/request-router.js';
import { Dispatcher } from '../../dist/routing/dispatcher.js';
import { FakeClock, FakeReplica, fakeModel, fakeObserver, fakeRequest, flush } from '../support/fakes.js';
import { readmeRouter } from '../support/readme-router.js';

let fromReadme: RequestRouter;

beforeAll(async () => {
  fromReadme = await readmeRouter();
});

const MODELS = Array.from({ length: 6 }, (_, index) => fakeModel(`m${index}`));
const ROUTERS: readonly (readonly [string, () => RouterName | RequestRouter])[] = [
  ...ROUTER_NAMES.map((name) => [name, () => name] as const),
  ["the README's", () => fromReadme],
];

/** A dispatcher with replicas that work when they are told to. */
class World {
  readonly clock: FakeClock;
  readonly replicas: FakeReplica[] = [];
  readonly faults: string[] = [];
  readonly answers: ('answered' | InfermuxError)[] = [];
  /** Requests that each replica was given, by its id. */
  readonly given: string[] = [];
  /** Keys of requests that were answered. */
  readonly keys: (string | undefined)[] = [];
  readonly dispatcher: Dispatcher<FakeReplica>;
  #born = 0;
  submitted = 0;

  constructor(
    router: RouterName | RequestRouter,
    how: { order?: Order; random?: () => number; defers?: boolean } = {},
  ) {
    this.clock = new FakeClock({ defers: how.defers ?? false });
    this.dispatcher = new Dispatcher(
      { maxOngoingRequests: -1, maxQueuedRequests: -1, batching: false, router, order: how.order ?? 'model' },
      how.random ?? (() => 0),
      this.clock,
      fakeObserver({ routerFailed: (fault, { message }) => this.faults.push(`${fault}: ${message}`) }),
    );
  }

  add(maxModels = 3): FakeReplica {
    const replica = new FakeReplica(`r${this.#born++}`, maxModels, {
      modelChanged: (changed, modelKey) => this.dispatcher.modelChanged(changed, modelKey),
      given: (to, { model }) => this.given.push(`${model.id}>${to.id}`),
    });
    replica.runMs = 10;
    this.replicas.push(replica);
    this.dispatcher.addReplica(replica);
    return replica;
  }

  submit(model: number, own: { shardKey?: string; labels?: Record<string, string>; priority?: number } = {}): void {
    const request = { ...fakeRequest(MODELS[model % MODELS.length] as (typeof MODELS)[0]), ...own };
    this.submitted += 1;
    this.dispatcher
      .submit(request, () => {
        this.keys.push(own.shardKey);
        return 'answered' as const;
      })
      .then(
        (answer) => this.answers.push(answer),
        (error: InfermuxError) => this.answers.push(error),
      );
  }

  async crash(index: number): Promise<void> {
    const [replica] = this.replicas.splice(index % this.replicas.length, 1);
    replica?.crash((error) => this.dispatcher.removeReplica(replica, error));
    await flush();
    this.add();
  }

  /** Lets all replicas work until nothing is left to do. */
  async settle(): Promise<void> {
    for (let round = 0; round < 2_000 && this.answers.length < this.submitted; round += 1) {
      for (const replica of this.replicas) replica.step();
      await flush();
      this.clock.runDeferred();
      this.clock.advance(1);
      await flush();
    }
  }
}

/** To the replica whose id the key begins with, or to any. */
const byKey: RequestRouter = {
  chooseReplicas: (candidates, { shardKey }) => [
    candidates.filter(({ id }) => shardKey === 'any' || shardKey?.startsWith(id)),
  ],
};

function throws(action: () => void): boolean {
  try {
    action();
  } catch {
    return true;
  }
  return false;
}

type Step =
  | { kind: 'submit'; model: number; shardKey: string | undefined; priority: number }
  | { kind: 'step'; replica: number }
  | { kind: 'crash'; replica: number }
  | { kind: 'advance'; milliseconds: number };

const step = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('submit' as const),
      model: fc.nat(5),
      shardKey: fc.option(fc.constantFrom('a', 'b', 'c'), { nil: undefined }),
      priority: fc.constantFrom(0, 0, 0, 1),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('step' as const), replica: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('crash' as const), replica: fc.nat(3) }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('advance' as const), milliseconds: fc.integer({ min: 1, max: 40 }) }),
  },
);

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
          const world = new World(routerOf(), { order, random });
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
    const world = new World(routerOf(), { random: Math.random });
    for (let index = 0; index < 4; index += 1) world.add();
    for (let index = 0; index < 200; index += 1) world.submit(index, { shardKey: `key-${index}` });
    await world.settle();
    expect(world.answers).toHaveLength(200);
    expect(new Set(world.given.map((line) => line.split('>')[1])).size).toBe(4);
  });

  it('lets a request wait while all replicas are busy, and is asked again when one frees', async () => {
    const world = new World(routerOf());
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
    const world = new World('power-of-two-choices');
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

it('a request that has to wait holds up none that may go elsewhere', async () => {
  const world = new World({
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
  world.submit(0, { labels: { zone: 'b' } });
  expect(world.given).toEqual(['m0>r0', 'm0>r1']);
  await world.settle();
  expect(world.answers).toHaveLength(101);
  expect(world.given.filter((line) => line === 'm0>r1')).toHaveLength(1);
});

it('nor do many that wait hold up those behind them for ever', async () => {
  const world = new World(byKey);
  world.add();
  const second = world.add();
  for (let index = 0; index < 200; index += 1) world.submit(0, { shardKey: `r0 ${index}` });
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

it.each(ROUTERS)('a replica that leaves strands no request, with router %s', async (_, routerOf) => {
  for (let index = 0; index < 6; index += 1) {
    const world = new World(routerOf());
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
  const world = new World(routerOf());
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

it('a model that is cold gets its turn though requests for others never cease', async () => {
  for (const router of ['uniform', 'throughput-aware', 'consistent-hash', 'power-of-two-choices'] as const) {
    const world = new World(router);
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
    const world = new World(byKey, { defers: true });
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
  const world = new World(byKey);
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
  const world = new World({
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
  const world = new World(router);
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
  const world = new World(byKey);
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
  const world = new World(byKey, { defers: true });
  const [, second] = [world.add(), world.add(), world.add()];
  for (const shardKey of ['r0', 'r1']) world.submit(0, { shardKey });
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

it('in order fifo a router is not asked while nothing is free', async () => {
  let replica: FakeReplica | undefined;
  let asked = 0;
  const world = new World(
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
    const world = new World('power-of-two-choices', { order });
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
  const world = new World('power-of-two-choices', { order: 'fifo', defers: true });
  world.add(9);
  for (const model of [0, 1, 0, 2]) world.submit(model);
  world.submit(3, { priority: 1 });
  world.clock.runDeferred();
  await world.settle();
  expect(world.given.map((line) => line.split('>')[0])).toEqual(['m3', 'm0', 'm1', 'm0', 'm2']);
});

it('in order fifo requests are placed as they came, by priority, whatever their model', async () => {
  const world = new World('least-loaded', { order: 'fifo' });
  const replica = world.add(9);
  world.submit(0);
  for (const model of [1, 0, 2, 1, 0]) world.submit(model);
  world.submit(3, { priority: 1 });
  expect(world.given).toEqual(['m0>r0']);
  await world.settle();
  expect(world.given.map((line) => line.split('>')[0])).toEqual(['m0', 'm3', 'm1', 'm0', 'm2', 'm1', 'm0']);
  expect(replica.loads).toHaveLength(4);
});

describe('hooks', () => {
  it('tell of each request that is routed and, once, of its end; of replicas that come, go and fail', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 60, size: 'max' }), async (steps) => {
        const open = new Map<PendingRequestView, string>();
        const [present, failed, wrong]: [Set<string>, string[], string[]] = [new Set(), [], []];
        const router: RequestRouter = {
          chooseReplicas: (candidates) => [candidates],
          onRequestRouted: ({ id }, request) => {
            if (open.has(request) || !present.has(id)) wrong.push(`routed to ${id}`);
            open.set(request, id);
          },
          onRequestCompleted: ({ id }, request) => {
            if (open.get(request) !== id) wrong.push(`completed in ${id}`);
            open.delete(request);
          },
          onReplicasChanged: (candidates) => {
            present.clear();
            for (const { id } of candidates) present.add(id);
          },
          onReplicaFailed: ({ id }) => failed.push(id),
        };
        const world = new World(router);
        for (let index = 0; index < 3; index += 1) world.add();
        let crashes = 0;
        for (const each of steps as Step[]) {
          if (each.kind === 'submit') world.submit(each.model);
          else if (each.kind === 'step') world.replicas[each.replica]?.step();
          else if (each.kind === 'advance') world.clock.advance(each.milliseconds);
          else {
            crashes += 1;
            await world.crash(each.replica);
          }
          await flush();
        }
        await world.settle();
        expect(wrong).toEqual([]);
        expect(world.faults).toEqual([]);
        expect(open.size).toBe(0);
        expect(failed).toHaveLength(crashes);
        expect(present).toEqual(new Set(world.replicas.map(({ id }) => id)));
      }),
      { numRuns: 60 },
    );
  });
});

it('a hook whose getter throws is told, and no request is lost', async () => {
  const world = new World({
    chooseReplicas: (candidates) => [candidates],
    get onRequestRouted(): never {
      throw new Error('hidden');
    },
  });
  world.add();
  for (let index = 0; index < 5; index += 1) world.submit(index);
  await world.settle();
  expect(world.answers).toHaveLength(5);
  expect(world.faults).toHaveLength(1);
});

it('a router that sends requests while it is asked, or told, keeps nobody waiting', async () => {
  let left = 6;
  const send = () => {
    if (left-- > 0) world.submit(left);
  };
  const world: World = new World(
    {
      chooseReplicas: (candidates) => {
        send();
        return [candidates];
      },
      onRequestRouted: send,
      onRequestCompleted: send,
    },
    { defers: true },
  );
  world.add();
  for (let index = 0; index < 2; index += 1) world.submit(0);
  await world.settle();
  expect([world.answers.length, world.submitted, world.dispatcher.queued]).toEqual([8, 8, 0]);
});

it('a router that cancels requests while it is asked leaves none that is counted or given twice', async () => {
  const controllers = [0, 1, 2].map(() => new AbortController());
  let asked = 0;
  const world = new World({
    chooseReplicas: (candidates) => {
      for (const controller of asked++ === 0 ? controllers : []) controller.abort();
      return [candidates];
    },
  });
  world.add();
  const model = MODELS[0] as (typeof MODELS)[0];
  const codes = await Promise.all(
    controllers.map(({ signal }) =>
      world.dispatcher.submit({ ...fakeRequest(model), signal }, () => 'answered').catch(({ code }) => code as string),
    ),
  );
  expect(new Set(codes)).toEqual(new Set(['CANCELLED']));
  expect(world.dispatcher.queued).toBe(0);
  expect(world.given).toEqual([]);
  world.submit(0);
  await world.settle();
  expect([world.given.length, world.dispatcher.queued]).toEqual([1, 0]);
});

describe('a router that does what it should not', () => {
  const stranger = { id: 'stranger' } as never;
  it.each<[string, string, Partial<RequestRouter>]>([
    [
      'throws',
      'threw',
      {
        chooseReplicas: () => {
          throw new Error('no idea');
        },
      },
    ],
    [
      'throws what is no error',
      'threw',
      {
        chooseReplicas: () => {
          throw undefined;
        },
      },
    ],
    ['returns nothing', 'not-ranks', { chooseReplicas: () => undefined as never }],
    ['returns a list of replicas instead of ranks', 'not-ranks', { chooseReplicas: (all) => all as never }],
    ['is asynchronous', 'not-ranks', { chooseReplicas: (async () => []) as never }],
    [
      'is asynchronous and fails',
      'not-ranks',
      {
        chooseReplicas: (async () => {
          throw new Error('late');
        }) as never,
      },
    ],
    ['ranks what is no replica', 'unknown-replica', { chooseReplicas: () => [[stranger]] }],
    ['ranks null', 'unknown-replica', { chooseReplicas: () => [[null as never]] }],
    ['never ranks anything', 'ranked-none', { chooseReplicas: () => [] }],
    ['ranks empty ranks alone', 'ranked-none', { chooseReplicas: () => [[], []] }],
    [
      'returns a list of promises',
      'not-ranks',
      {
        chooseReplicas: ((all: unknown[]) =>
          all.map(async () => {
            throw new Error('x');
          })) as never,
      },
    ],
    [
      'ranks promises',
      'unknown-replica',
      {
        chooseReplicas: ((all: unknown[]) => [
          all.map(async () => {
            throw new Error('x');
          }),
        ]) as never,
      },
    ],
    [
      'changes what it is shown of the request',
      'threw',
      {
        chooseReplicas: (_, request) => {
          (request as { modelKey: string }).modelKey = 'x';
          return [];
        },
      },
    ],
    ['has a hook that is no function', 'hook-threw', { onRequestRouted: 'yes' as never }],
    [
      'has a hook that throws',
      'hook-threw',
      {
        onRequestRouted: () => {
          throw new Error('hook');
        },
      },
    ],
    [
      'has a hook that rejects',
      'hook-threw',
      {
        onRequestCompleted: (async () => {
          throw new Error('hook');
        }) as never,
      },
    ],
    [
      'has hooks that all throw',
      'hook-threw',
      {
        onReplicasChanged: () => {
          throw new Error('hook');
        },
        onRequestCompleted: () => {
          throw new Error('hook');
        },
        onReplicaFailed: () => {
          throw new Error('hook');
        },
      },
    ],
  ])('and %s is passed over, and told', async (_, fault, own) => {
    const world = new World({ chooseReplicas: (candidates) => [candidates], ...own });
    for (let index = 0; index < 3; index += 1) world.add();
    for (let index = 0; index < 40; index += 1) world.submit(index);
    await world.settle();
    expect(world.answers).toEqual(Array.from({ length: 40 }, () => 'answered'));
    expect(new Set(world.faults.map((line) => line.split(':')[0]))).toEqual(new Set([fault]));
  });

  it('cannot change what it is shown', async () => {
    const seen: unknown[] = [];
    const world = new World({
      chooseReplicas: (candidates, request) => {
        const first = candidates[0] as ReplicaView;
        const writes = [
          () => Object.assign(first, { id: 'other' }),
          () => Object.assign(first.labels, { zone: 'other' }),
          () => Object.assign(request, { model: 'other' }),
          () => (first.models as Map<string, string>).set('other', 'loaded'),
        ];
        seen.push([candidates.length, writes.filter((write) => !throws(write)).length]);
        (candidates as unknown[]).reverse();
        (candidates as unknown[]).length = 1;
        return [candidates, [{ ...candidates[0], note: request.model } as never]];
      },
    });
    for (let index = 0; index < 3; index += 1) world.add();
    for (let index = 0; index < 10; index += 1) world.submit(0);
    await world.settle();
    expect(world.answers).toHaveLength(10);
    expect(seen.length).toBeGreaterThan(1);
    expect(seen).toEqual(seen.map(() => [3, 0]));
    expect(world.faults).toEqual([]);
  });
});
