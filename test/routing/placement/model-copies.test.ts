import { beforeEach, expect, it } from 'vitest';
import { NO_MODEL } from '../../../dist/contracts/handler.js';
import type { RequestRouter } from '../../../dist/contracts/request-router.js';
import { Dispatcher } from '../../../dist/routing/dispatcher.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';
import { fakeObserver } from '../../support/fakes/fake-observer.js';
import { FakeReplica } from '../../support/fakes/fake-replica.js';
import { fakeModel, fakeRequest } from '../../support/fakes/fake-requests.js';
import { flush } from '../../support/flush.js';

const HOT = fakeModel('hot');
const COLD = fakeModel('cold');
const RUN_MS = 10;

let clock: FakeClock;
let dispatcher: Dispatcher<FakeReplica>;

beforeEach(() => {
  clock = new FakeClock();
  const options = { maxOngoingRequests: -1, maxQueuedRequests: -1, batching: false } as const;
  dispatcher = new Dispatcher(options, () => 0, clock, fakeObserver());
});

function add(id: string, maxModels = 3, models = [] as (typeof HOT)[]): FakeReplica {
  const replica = new FakeReplica(id, maxModels, {
    modelChanged: (changed, modelKey) => dispatcher.modelChanged(changed, modelKey),
    given: () => undefined,
  });
  replica.runMs = RUN_MS;
  for (const { key } of models) replica.models.set(key, 'loaded');
  dispatcher.addReplica(replica);
  for (const { key } of models) dispatcher.modelChanged(replica, key);
  return replica;
}

/** One request after the other, so that none ever waits, for so long; the replica is busy for this share of the time. */
async function work(replica: FakeReplica, model: typeof HOT, milliseconds: number, share: number): Promise<void> {
  const end = clock.now() + milliseconds;
  while (clock.now() < end) {
    void dispatcher.submit(fakeRequest(model), () => undefined);
    await flush();
    clock.advance(RUN_MS);
    replica.step();
    await flush();
    clock.advance((RUN_MS * (1 - share)) / share);
  }
}

it('a model that takes more than half of what its replica has to give gets a copy elsewhere, in idle time', async () => {
  const [busy, other] = [add('r0', 3, [HOT]), add('r1')];
  await work(busy, HOT, 20_000, 0.4);
  expect(other.models.has(HOT.key)).toBe(false);
  await work(busy, HOT, 40_000, 0.7);
  expect(other.models.get(HOT.key)).toBe('loading');
  other.step();
  expect(other.loads).toEqual([HOT.key]);
});

it('but not for a moment, nor where it would evict another model', async () => {
  const [busy, full] = [add('r0', 3, [HOT]), add('r1', 1, [COLD])];
  await work(busy, HOT, 500, 0.9);
  await work(full, COLD, 100, 0.5);
  expect(full.models.has(HOT.key)).toBe(false);
  await work(busy, HOT, 60_000, 0.9);
  await work(full, COLD, 100, 0.5);
  expect([...full.models.keys()]).toEqual([COLD.key]);
});

it('takes the place of a spare copy, unless that is pinned', async () => {
  const [busy, one, other] = [add('r0', 3, [HOT]), add('r1', 1, [COLD]), add('r2', 1, [COLD])];
  for (const { pinned } of [one, other]) pinned.add(COLD.key);
  await work(busy, HOT, 60_000, 0.9);
  expect([one, other].some(({ models }) => models.has(HOT.key))).toBe(false);
  for (const { pinned } of [one, other]) pinned.clear();
  await work(busy, HOT, 10_000, 0.9);
  const loading = [one, other].filter(({ models }) => models.has(HOT.key));
  expect(loading.map(({ spare }) => spare)).toEqual([[COLD.key]]);
  loading[0]?.step();
  // The last copy is not spare.
  await work(busy, HOT, 60_000, 0.9);
  expect([one, other].flatMap(({ models }) => [...models.keys()]).sort()).toEqual([COLD.key, HOT.key]);
});

it('but not in a replica with a handler, of which nobody knows what it uses', async () => {
  const replicas = [add('r0', 3, [HOT]), add('r1', 1, [COLD]), add('r2', 1, [COLD])] as const;
  for (const replica of replicas) {
    replica.models.set(NO_MODEL, 'loaded');
    dispatcher.modelChanged(replica, NO_MODEL);
  }
  await work(replicas[0], HOT, 60_000, 0.9);
  expect(replicas.filter(({ models }) => models.has(HOT.key))).toEqual([replicas[0]]);
});

it('two models that are short do not take the place of each other again and again', async () => {
  const WARM = fakeModel('warm');
  const byModel: RequestRouter = {
    chooseReplicas: (candidates, { model }) => [candidates.filter(({ id }) => id === (model === HOT.id ? 'r0' : 'r1'))],
  };
  const options = { maxOngoingRequests: -1, maxQueuedRequests: -1, batching: false, router: byModel } as const;
  dispatcher = new Dispatcher(options, () => 0, clock, fakeObserver());
  const [first, second, idle] = [add('r0', 1, [HOT]), add('r1', 1, [WARM]), add('r2', 1)];
  for (let round = 0; round < 20_000; round += 1) {
    for (const model of [HOT, WARM]) void dispatcher.submit(fakeRequest(model), () => undefined);
    await flush();
    clock.advance(RUN_MS);
    for (const replica of [first, second, idle]) replica.step();
    await flush();
    clock.advance(2);
  }
  expect(idle.loads).toHaveLength(1);
});

it('nor on one that has as much to do', async () => {
  const [busy, other] = [add('r0', 3, [HOT]), add('r1', 3, [COLD])];
  for (let round = 0; round < 3_000; round += 1) {
    for (const model of [HOT, COLD]) void dispatcher.submit(fakeRequest(model), () => undefined);
    await flush();
    clock.advance(RUN_MS);
    for (const replica of [busy, other]) replica.step();
    await flush();
    clock.advance(2);
  }
  expect(other.models.has(HOT.key)).toBe(false);
});

it('nor of a model that was unloaded, or that nobody asks for any more', async () => {
  const [busy, full] = [add('r0', 3, [HOT]), add('r1', 1, [COLD])];
  await work(busy, HOT, 60_000, 0.9);
  // From now on there would be room.
  full.models.delete(COLD.key);
  busy.models.delete(HOT.key);
  dispatcher.modelChanged(busy, HOT.key);
  dispatcher.modelChanged(full, COLD.key);
  expect([...full.models.keys(), ...busy.models.keys()]).toEqual([]);
});

it('a copy that was not used for long may leave before others, one in use or alone may not', async () => {
  const [first, second] = [add('r0', 3, [HOT, COLD]), add('r1', 3, [HOT])];
  await work(first, HOT, 1_000, 0.5);
  void dispatcher.submit(fakeRequest(fakeModel('new')), () => undefined);
  await flush();
  // Too early, though the second was never asked.
  expect(second.spare).toEqual([]);
  for (const replica of [first, second]) while (replica.step()) await flush();
  clock.advance(60_000);
  await work(first, HOT, 100, 0.5);
  void dispatcher.submit(fakeRequest(fakeModel('newer')), () => undefined);
  void dispatcher.submit(fakeRequest(fakeModel('newest')), () => undefined);
  await flush();
  const [used, unused] = [first, second].map(({ spare }) => spare);
  expect(used).toEqual([]);
  expect(unused).toEqual([HOT.key]);
});
