import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { ModelState } from '../../../../dist/contracts/request-router.js';
import { type IndexedReplica, ReplicaIndex } from '../../../../dist/routing/placement/replicas/replica-index.js';
import { PowerOfTwoChoicesRouter } from '../../../../dist/routing/routers/by-model/power-of-two-choices-router.js';
import { fakeRequestView, fakeView } from '../../../support/fakes/fake-views.js';

interface Replica extends IndexedReplica {
  readonly models: Map<string, ModelState>;
}

const replica = (id: string, freeBytes = 0) => fakeView(id, { models: new Map(), freeBytes }) as Replica;

it('finds warm, emptiest, idle and free replicas as a walk over all of them would, whatever changes', () => {
  const change = fc.record({
    replica: fc.nat(5),
    kind: fc.constantFrom('add', 'delete', 'load', 'load', 'loaded', 'unload', 'occupy', 'leave'),
    model: fc.constantFrom('a', 'b', 'c'),
  });
  fc.assert(
    fc.property(fc.array(change, { maxLength: 80, size: 'max' }), (changes) => {
      const index = new ReplicaIndex<Replica>();
      const all = Array.from({ length: 6 }, (_, id) => replica(`r${id}`));
      const [present, occupied] = [new Set<Replica>(), new Set<Replica>()];
      for (const { replica: which, kind, model } of changes) {
        const current = all[which] as Replica;
        if (kind === 'add' && !present.has(current)) {
          present.add(current);
          occupied.delete(current);
          index.add(current);
        } else if (kind === 'delete') {
          present.delete(current);
          index.delete(current);
        } else if (kind === 'load') {
          current.models.set(model, 'loading');
          index.modelChanged(current, model);
        } else if (kind === 'loaded') {
          current.models.set(model, 'loaded');
          index.modelChanged(current, model);
        } else if (kind === 'unload') {
          current.models.delete(model);
          index.modelChanged(current, model);
        } else if (present.has(current)) {
          const isIdle = kind === 'leave';
          if (isIdle) occupied.delete(current);
          else occupied.add(current);
          index.setOccupancy(current, { isIdle, isFree: isIdle });
        }
        const ids = (replicas: Iterable<Replica>) => [...replicas].map(({ id }) => id).sort();
        const here = [...present];
        const fewest = Math.min(...here.map(({ models }) => models.size));
        expect(index.size).toBe(here.length);
        for (const key of ['a', 'b', 'c']) {
          expect(index.isLoading(key)).toBe(here.some(({ models }) => models.get(key) === 'loading'));
          expect(ids(index.warm(key))).toEqual(ids(here.filter(({ models }) => models.has(key))));
        }
        expect(ids(index.fewestModels)).toEqual(ids(here.filter(({ models }) => models.size === fewest)));
        expect(ids(index.idle)).toEqual(ids(here.filter((other) => !occupied.has(other))));
        expect(ids(index.free)).toEqual(ids(index.idle));
      }
    }),
  );
});

it('chooses two different replicas, every pair as often as any other', () => {
  const index = new ReplicaIndex<Replica>();
  for (let id = 0; id < 4; id += 1) {
    const warm = replica(`r${id}`);
    warm.models.set('a', 'loaded');
    index.add(warm);
  }
  let state = 7;
  const router = new PowerOfTwoChoicesRouter(() => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  });
  const counts = new Map<string, number>();
  const request = fakeRequestView('a');
  for (let draw = 0; draw < 12_000; draw += 1) {
    const [pair] = router.chooseReplicas(index, request);
    const key = [...(pair ?? [])].map(({ id }) => id).join();
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  // In the order of the list, so that of two equally busy ones always the same is taken.
  expect([...counts.keys()].sort()).toEqual(['r0,r1', 'r0,r2', 'r0,r3', 'r1,r2', 'r1,r3', 'r2,r3']);
  for (const count of counts.values()) expect(count).toBeGreaterThan(1_700);
});

it('ranks warm replicas first, and cold ones behind them only when the wait has cost a load', () => {
  const index = new ReplicaIndex<Replica>();
  const [warm, roomy, tight, full] = [replica('warm'), replica('roomy', 9), replica('tight', 1), replica('full', 99)];
  warm.models.set('a', 'loaded');
  full.models.set('b', 'loaded');
  for (const one of [warm, roomy, tight, full]) index.add(one);
  const router = new PowerOfTwoChoicesRouter(() => 0);
  const choose = (modelKey: string, totalWaitedMs: number) =>
    router
      .chooseReplicas(index, fakeRequestView(modelKey, { totalWaitedMs }))
      .map((rank) => [...rank].map(({ id }) => id));
  expect(choose('a', 9)).toEqual([['warm']]);
  expect(choose('a', 10)[0]).toEqual(['warm']);
  expect(choose('a', 10)[1]).toEqual(['roomy', 'tight']);
  expect(choose('c', 0)[0]).toEqual(['roomy', 'tight']);
});
