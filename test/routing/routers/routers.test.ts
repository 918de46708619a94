import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ReplicaView, RequestRouter } from '../../../dist/contracts/request-router.js';
import { type IndexedReplica, ReplicaIndex } from '../../../dist/routing/placement/replicas/replica-index.js';
import { ExpectedCompletionRouter } from '../../../dist/routing/routers/by-model/expected-completion-router.js';
import { LeastLoadedRouter } from '../../../dist/routing/routers/by-model/least-loaded-router.js';
import { PowerOfTwoChoicesRouter } from '../../../dist/routing/routers/by-model/power-of-two-choices-router.js';
import { ConsistentHashRouter } from '../../../dist/routing/routers/by-request/consistent-hash-router.js';
import { RoundRobinRouter } from '../../../dist/routing/routers/by-request/round-robin-router.js';
import { ThroughputAwareRouter } from '../../../dist/routing/routers/by-request/throughput-aware-router.js';
import { UniformRouter } from '../../../dist/routing/routers/by-request/uniform-router.js';
import { chooseTwo } from '../../../dist/routing/routers/ranks.js';
import { fakeRequestView, fakeView } from '../../support/fakes/fake-views.js';

/** Park and Miller's generator, so that a statistical test is the same each time. */
function lehmer(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 48_271) % 2_147_483_647;
    return state / 2_147_483_647;
  };
}

const DRAWS = 60_000;
/** A count that is right is farther off than five standard deviations once in two million times. */
const SIGMAS = 5;

function expectShares(counts: ReadonlyMap<string, number>, shares: Readonly<Record<string, number>>): void {
  for (const [id, share] of Object.entries(shares)) {
    const deviation = Math.sqrt(DRAWS * share * (1 - share));
    expect(Math.abs((counts.get(id) ?? 0) - DRAWS * share), id).toBeLessThanOrEqual(SIGMAS * deviation);
  }
  expect([...counts.values()].reduce((sum, count) => sum + count, 0)).toBe(DRAWS);
}

function countFirst(router: RequestRouter, replicas: readonly ReplicaView[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (let draw = 0; draw < DRAWS; draw += 1) {
    const id = router.chooseReplicas(replicas, fakeRequestView('m'))[0]?.[0]?.id as string;
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return counts;
}

const warm = (id: string, own: Partial<ReplicaView> = {}) =>
  fakeView(id, { models: new Map([['m', 'loaded']]), ...own });
const idsOf = (ranks: readonly Iterable<ReplicaView>[]) => ranks.map((rank) => [...rank].map(({ id }) => id));

function indexOf(replicas: readonly IndexedReplica[]): ReplicaIndex<IndexedReplica> {
  const index = new ReplicaIndex<IndexedReplica>();
  for (const replica of replicas) {
    index.add(replica);
    index.setOccupancy(replica, { isIdle: replica.ongoing === 0, isFree: replica.ongoing < replica.capacity });
  }
  return index;
}

describe('uniform', () => {
  it('draws each replica that can take the request as often as any other', () => {
    const replicas = [warm('a'), warm('b'), warm('c'), warm('full', { ongoing: 2, capacity: 2 }), warm('d')];
    const counts = countFirst(new UniformRouter(lehmer(7)), replicas);
    expectShares(counts, { a: 1 / 4, b: 1 / 4, c: 1 / 4, d: 1 / 4, full: 0 });
  });

  it('ranks nothing when none can take it', () => {
    const busy = warm('a', { ongoing: 1, capacity: 1 });
    expect(new UniformRouter(() => 0.5).chooseReplicas([busy], fakeRequestView('m'))).toEqual([]);
  });
});

describe('round-robin', () => {
  it('goes through the replicas in turn, past those that can take nothing', () => {
    const router = new RoundRobinRouter();
    const replicas = [warm('a'), warm('b', { ongoing: 1, capacity: 1 }), warm('c'), warm('d')];
    const order: string[] = [];
    for (let turn = 0; turn < 7; turn += 1) {
      const replica = router.chooseReplicas(replicas, fakeRequestView('m'))[0]?.[0] as ReplicaView;
      order.push(replica.id);
      router.onRequestRouted(replica);
    }
    expect(order.join('')).toBe('acdacda');
  });
});

describe('two choices', () => {
  it('draws two different ones, every pair as often as any other', () => {
    const counts = new Map<string, number>();
    const random = lehmer(11);
    for (let draw = 0; draw < DRAWS; draw += 1) {
      const key = chooseTwo(['a', 'b', 'c', 'd'], random).join('');
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expectShares(counts, { ab: 1 / 6, ac: 1 / 6, ad: 1 / 6, bc: 1 / 6, bd: 1 / 6, cd: 1 / 6 });
  });

  it('gives the shorter queue of the two: the k-th shortest of n wins as often as the pairs in which it is', () => {
    const replicas = ['a', 'b', 'c', 'd'].map((id, ongoing) => warm(id, { ongoing }));
    const index = indexOf(replicas);
    const router = new PowerOfTwoChoicesRouter(lehmer(13));
    const counts = new Map<string, number>();
    for (let draw = 0; draw < DRAWS; draw += 1) {
      const [pair = []] = router.chooseReplicas(index, fakeRequestView('m'));
      const [least] = [...pair].sort((left, right) => left.ongoing - right.ongoing);
      counts.set(least?.id ?? '', (counts.get(least?.id ?? '') ?? 0) + 1);
    }
    expectShares(counts, { a: 3 / 6, b: 2 / 6, c: 1 / 6, d: 0 });
  });
});

const someReplicas = fc.array(
  fc.record({
    ongoing: fc.nat(4),
    isWarm: fc.boolean(),
    others: fc.nat(3),
    freeBytes: fc.nat(5),
    expectedWorkMs: fc.nat(50),
    throughput: fc.nat(5),
  }),
  { minLength: 1, maxLength: 8 },
);

function viewsOf(
  drawn: readonly {
    ongoing: number;
    isWarm: boolean;
    others: number;
    freeBytes: number;
    expectedWorkMs: number;
    throughput: number;
  }[],
) {
  return drawn.map(({ ongoing, isWarm, others, freeBytes, expectedWorkMs, throughput }, index) => {
    const models = [...(isWarm ? ['m'] : []), ...['x', 'y', 'z'].slice(0, others)];
    return fakeView(`r${index}`, {
      ...{ ongoing, capacity: 3, freeBytes, expectedWorkMs: ongoing === 0 ? 0 : expectedWorkMs },
      models: new Map(models.map((key) => [key, 'loaded' as const])),
      routingStats: { throughput, runMs: 0, loadMs: 0 },
    });
  });
}

describe('least-loaded', () => {
  it('ranks all that have the model, or of the idle ones an emptiest', () => {
    fc.assert(
      fc.property(someReplicas, (drawn) => {
        const views = viewsOf(drawn);
        const have = views.filter(({ models }) => models.has('m'));
        const ranks = new LeastLoadedRouter().chooseReplicas(indexOf(views), fakeRequestView('m'));
        if (have.length > 0) {
          expect(idsOf(ranks)[0]?.sort()).toEqual(have.map(({ id }) => id));
          return;
        }
        const idle = views.filter(({ ongoing }) => ongoing === 0);
        const best = Math.min(...idle.map(({ models }) => models.size));
        const roomiest = Math.max(
          ...idle.filter(({ models }) => models.size === best).map(({ freeBytes }) => freeBytes),
        );
        const [first] = ranks[0] ?? [];
        if (idle.length > 0) expect(first).toMatchObject({ ongoing: 0, freeBytes: roomiest });
        else expect(first).toBeUndefined();
      }),
    );
  });
});

describe('expected-completion', () => {
  it('ranks first the one whose work ends first, and of equal ones the one with most free bytes', () => {
    fc.assert(
      fc.property(someReplicas, (drawn) => {
        const views = viewsOf(drawn);
        const have = views.filter(({ models }) => models.has('m'));
        fc.pre(have.length > 0);
        const ranks = new ExpectedCompletionRouter().chooseReplicas(indexOf(views), fakeRequestView('m'));
        const soonest = Math.min(...have.map(({ expectedWorkMs }) => expectedWorkMs));
        const equal = have.filter(({ expectedWorkMs }) => expectedWorkMs === soonest);
        const [first] = ranks[0] ?? [];
        expect(first?.expectedWorkMs).toBe(soonest);
        expect(first?.freeBytes).toBe(Math.max(...equal.map(({ freeBytes }) => freeBytes)));
      }),
    );
  });

  it('ranks an idle cold one when what waits would end later where the model is than it takes to load it', () => {
    const replicas = [warm('warm', { ongoing: 1, expectedWorkMs: 4 }), fakeView('cold')];
    const choose = (queued: number, totalWaitedMs: number) =>
      idsOf(
        new ExpectedCompletionRouter().chooseReplicas(
          indexOf(replicas),
          fakeRequestView('m', {
            queued,
            totalWaitedMs,
            expectedDrainMs: 2 * queued,
            expectedRunMs: 2,
            expectedLoadMs: 10,
          }),
        ),
      ).flat();
    expect(choose(4, 0)).not.toContain('cold'); // 4 + 4 · 2 = 12 = 10 + 2
    expect(choose(5, 0)).toContain('cold');
    expect(choose(1, 19)).not.toContain('cold');
    expect(choose(1, 20)).toContain('cold'); // estimates may be wrong
  });
});

describe('throughput-aware', () => {
  it('prefers the model, then the place, then the least throughput, among those that can take the request', () => {
    const stats = (throughput: number) => ({ routingStats: { throughput, runMs: 0, loadMs: 0 } });
    const replicas = [
      fakeView('cold-near', { labels: { device: 'gpu0' }, ...stats(0) }),
      warm('busy-near', { labels: { device: 'gpu0' }, ongoing: 2, capacity: 2, ...stats(0) }),
      warm('fast-near', { labels: { device: 'gpu0' }, ...stats(9) }),
      warm('slow-near', { labels: { device: 'gpu0' }, ...stats(3) }),
      warm('same-group', { labels: { device: 'gpu1', group: 'a' }, ...stats(1) }),
      warm('far', stats(0)),
    ];
    const request = fakeRequestView('m', { labels: { device: 'gpu0', group: 'a' } });
    expect(idsOf(new ThroughputAwareRouter().chooseReplicas(replicas, request)).flat()).toEqual([
      ...['slow-near', 'same-group', 'far', 'cold-near'],
    ]);
  });
});

describe('consistent-hash', () => {
  const replicasOf = (ids: readonly string[], own: Partial<ReplicaView> = {}) => ids.map((id) => warm(id, own));
  const homeOf = (router: ConsistentHashRouter, replicas: readonly ReplicaView[], shardKey: string) =>
    router.chooseReplicas(replicas, fakeRequestView('m', { shardKey }))[0]?.[0]?.id;
  const ringOf = (replicas: readonly ReplicaView[]) => {
    const router = new ConsistentHashRouter();
    router.onReplicasChanged(replicas);
    return router;
  };

  it('keeps each key where it is, in whatever order replicas are listed', () => {
    const names = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 9 });
    fc.assert(
      fc.property(names, fc.string(), (ids, key) => {
        const replicas = replicasOf(ids);
        const home = homeOf(ringOf(replicas), replicas, key);
        expect(ids).toContain(home);
        const reversed = [...replicas].reverse();
        expect(homeOf(ringOf(reversed), reversed, key)).toBe(home);
      }),
    );
  });

  it('moves keys only to a replica that joins, or from one that left, and no more than its share', () => {
    const keys = Array.from({ length: 5_000 }, (_, index) => `user-${index}`);
    const before = replicasOf(['r0', 'r1', 'r2', 'r3']);
    const after = replicasOf(['r0', 'r1', 'r2', 'r3', 'r4']);
    const [old, young] = [ringOf(before), ringOf(after)];
    let moved = 0;
    const counts = new Map<string, number>();
    for (const key of keys) {
      const [from, to] = [homeOf(old, before, key), homeOf(young, after, key) as string];
      counts.set(to, (counts.get(to) ?? 0) + 1);
      if (from === to) continue;
      expect(to).toBe('r4');
      moved += 1;
    }
    // A fifth, as evenly as 100 points each make it: their standard deviation is a tenth of a share.
    expect(moved / keys.length).toBeGreaterThan(0.2 * 0.6);
    expect(moved / keys.length).toBeLessThan(0.2 * 1.4);
    for (const count of counts.values()) expect(Math.abs(count / keys.length - 0.2)).toBeLessThan(0.2 * 0.4);
  });

  it('gives no replica more than a quarter above its share of the requests under way, and always ranks one', () => {
    const busy = fc.array(fc.record({ ongoing: fc.nat(30), isFull: fc.boolean() }), { minLength: 1, maxLength: 9 });
    fc.assert(
      fc.property(busy, fc.string(), fc.nat(100), (drawn, shardKey, waitedMs) => {
        const replicas = drawn.map(({ ongoing, isFull }, index) =>
          warm(`r${index}`, { ongoing, capacity: isFull ? ongoing : Number.POSITIVE_INFINITY }),
        );
        const underWay = drawn.reduce((sum, { ongoing }) => sum + ongoing, 0);
        const most = Math.ceil((1.25 * (underWay + 1)) / replicas.length);
        const ranks = ringOf(replicas).chooseReplicas(replicas, fakeRequestView('m', { shardKey, waitedMs }));
        expect(ranks.length).toBeGreaterThan(0);
        for (const { ongoing, capacity } of ranks.flat())
          if (ongoing < capacity) expect(ongoing + 1).toBeLessThanOrEqual(most);
      }),
    );
  });

  it('waits for a busy replica as long as a run, and a load where the next has to load the model, would cost', () => {
    const replicas = [
      ...replicasOf(['r0', 'r1', 'r2'], { ongoing: 1, capacity: 1 }),
      fakeView('cold', { capacity: 9 }),
    ];
    const ranked = (waitedMs: number) =>
      ringOf(replicas)
        .chooseReplicas(
          replicas,
          fakeRequestView('m', { shardKey: 'user-1', waitedMs, expectedRunMs: 5, expectedLoadMs: 20 }),
        )
        .flat().length;
    expect(ranked(4)).toBe(1);
    expect(ranked(5)).toBeGreaterThan(1);
    expect(ranked(25)).toBe(4);
  });
});
