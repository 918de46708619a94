import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { wideKeyOf } from '../../../dist/contracts/model-reference.js';
import type { PendingRequestView, ReplicaView } from '../../../dist/contracts/request-router.js';
import { type IndexedReplica, ReplicaIndex } from '../../../dist/routing/placement/replicas/replica-index.js';
import { LeastLoadedRouter } from '../../../dist/routing/routers/by-model/least-loaded-router.js';
import { PowerOfTwoChoicesRouter } from '../../../dist/routing/routers/by-model/power-of-two-choices-router.js';
import { isSaturated, maySpill, msUntilPaid, spillOf, spillsTo } from '../../../dist/routing/routers/by-model/spill.js';
import { fakeRequestView, fakeView } from '../../support/fakes/fake-views.js';

const request = (own: Partial<PendingRequestView> = {}) => fakeRequestView('m', { expectedLoadMs: 600, ...own });

const warm = (state: 'loading' | 'loaded' = 'loaded') =>
  fakeView('warm', { models: new Map([['m', state]]), ongoing: 1 });
/** A replica that answers this many requests per second for other models. */
const busy = (throughput: number, own: Partial<ReplicaView> = {}) =>
  fakeView('busy', { routingStats: { throughput, runMs: 0, loadMs: 0 }, ...own });

function indexOf(...replicas: readonly IndexedReplica[]): ReplicaIndex<IndexedReplica> {
  const index = new ReplicaIndex<IndexedReplica>();
  for (const replica of replicas) {
    index.add(replica);
    index.setOccupancy(replica, { isIdle: replica.ongoing === 0, isFree: true });
  }
  return index;
}

describe('waiting that pays for a load', () => {
  it.each<[string, Partial<PendingRequestView>, number, number]>([
    ['one alone waits for as long as a load takes', { queued: 1 }, 0, 600],
    ['sixteen share that', { queued: 16 }, 0, 37.5],
    ['they have paid with 100 ms each', { queued: 16, totalWaitedMs: 1_600 }, 0, -62.5],
    ['they wait longer for a load that holds up four others', { queued: 16 }, 4, (3 * 600) / 16],
    ['but for no more than half a load each', { queued: 16 }, 1e9, (17 / 32) * 600],
    ['one alone waits for no longer than a load', { queued: 1 }, 1e9, 600],
    ['waits that a batch may take pay for nothing', { queued: 600 }, 0, 5],
    ['nor do waits that may last until all have run', { queued: 600, expectedDrainMs: 300 }, 0, 20],
    ['even if a load is as short', { queued: 1, expectedDrainMs: 1, expectedLoadMs: 2 }, 0, 20],
    ['unless a load is shorter than that', { queued: 600, expectedLoadMs: 2 }, 0, 2],
  ])('%s', (_, own, others, milliseconds) => {
    expect(msUntilPaid(request(own), others)).toBeCloseTo(milliseconds, 9);
  });

  it('is never due later for more that wait equally long, nor for a replica with fewer others', () => {
    const some = { queued: fc.integer({ min: 1, max: 500 }), each: fc.nat(900), others: fc.nat(50), more: fc.nat(50) };
    fc.assert(
      fc.property(fc.record(some), ({ queued, each, others, more }) => {
        const until = (count: number, held: number) =>
          msUntilPaid(request({ queued: count, totalWaitedMs: count * each }), held);
        expect(until(queued + more, others)).toBeLessThanOrEqual(until(queued, others) + 1e-9);
        expect(until(queued, others)).toBeLessThanOrEqual(until(queued, others + more) + 1e-9);
      }),
    );
  });
});

describe('saturation', () => {
  it.each<[string, Partial<PendingRequestView>, number, boolean]>([
    ['nothing is known of its runs', { queued: 60 }, 0, false],
    ['its replicas need as long as a load takes', { queued: 60, expectedDrainMs: 600 }, 0, false],
    ['they need longer', { queued: 60, expectedDrainMs: 601 }, 0, true],
    ['a long run alone is enough', { queued: 2, expectedDrainMs: 1_000 }, 0, true],
    ['a load would hold up more than it helps', { queued: 2, expectedDrainMs: 1_000 }, 2, false],
    ['a load would hold up others, but less', { queued: 6, expectedDrainMs: 1_000 }, 2, true],
  ])('when %s', (_, own, others, is) => {
    expect(isSaturated(request(own), others)).toBe(is);
  });
});

describe('a spill', () => {
  const saturated = request({ queued: 15, expectedDrainMs: 7_500 });
  const paid = request({ queued: 16, totalWaitedMs: 1_600 });
  const full = { freeModels: 0 };

  it('takes a saturated model at once where there is room, for models and for bytes', () => {
    const candidates = indexOf(warm());
    expect(spillsTo(candidates, saturated, busy(0))).toBe(true);
    expect(spillsTo(candidates, saturated, busy(0, full))).toBe(false);
    const bytes = { ...saturated, modelBytes: 100 };
    expect(spillsTo(candidates, bytes, busy(0, { freeBytes: 100 }))).toBe(true);
    expect(spillsTo(candidates, bytes, busy(0, { freeBytes: 99 }))).toBe(false);
  });

  it('evicts when the waiting has paid for it, later where other models are in use', () => {
    const candidates = indexOf(warm());
    expect(spillsTo(candidates, paid, busy(0, full))).toBe(true);
    // 1,600 ms have paid for 600 · (1 + 0.6 · 2 / 2) ms with room, but not for ten times as many others without.
    expect(spillsTo(candidates, paid, busy(2))).toBe(true);
    expect(spillsTo(candidates, paid, busy(2, full))).toBe(false);
    expect(spillsTo(candidates, { ...paid, totalWaitedMs: 16 * 320 }, busy(1e9, full))).toBe(true);
  });

  it('has no second load for a wait while there is one, but may for a saturated model', () => {
    const candidates = indexOf(warm('loading'));
    expect(spillsTo(candidates, paid, busy(0))).toBe(false);
    expect(spillOf(candidates, paid)).toEqual({ atOnce: false, inMs: Number.POSITIVE_INFINITY });
    expect(spillsTo(candidates, saturated, busy(0))).toBe(true);
  });

  it('goes past a load that takes too long', () => {
    const candidates = indexOf(warm('loading'));
    const overdue = { ...paid, waitedMs: 20 * 600 };
    expect(spillsTo(candidates, overdue, busy(0, full))).toBe(true);
    expect(maySpill(spillOf(candidates, overdue))).toBe(true);
  });

  it('pays no heed to a load that a handler may never begin', () => {
    const candidates = indexOf({ ...warm('loading'), isTrying: () => false });
    expect(spillsTo(candidates, paid, busy(0))).toBe(true);
  });

  it('counts the lone runs of its own model as nobody whom the load holds up', () => {
    const candidates = indexOf(warm());
    const wide = busy(1e9, { models: new Map([[wideKeyOf('m'), 'loaded']]) });
    expect(spillsTo(candidates, saturated, wide)).toBe(true);
    expect(spillsTo(candidates, saturated, busy(1e9))).toBe(false);
  });

  it.each([-1, Number.NaN, 0])('takes %s for no throughput', (throughput) => {
    expect(spillsTo(indexOf(warm()), paid, busy(throughput, full))).toBe(true);
  });

  it('is looked for whenever a replica may take it', () => {
    const candidates = indexOf(warm());
    const view = fc.record({
      queued: fc.integer({ min: 1, max: 99 }),
      totalWaitedMs: fc.nat(9_000),
      expectedDrainMs: fc.nat(2_000),
    });
    fc.assert(
      fc.property(view, fc.nat(9), fc.boolean(), (own, throughput, hasRoom) => {
        const replica = busy(throughput, hasRoom ? {} : full);
        if (spillsTo(candidates, request(own), replica)) expect(maySpill(spillOf(candidates, request(own)))).toBe(true);
      }),
    );
  });

  it.each([
    ['power-of-two-choices', new PowerOfTwoChoicesRouter(() => 0)],
    ['least-loaded', new LeastLoadedRouter()],
  ])('finds the only replica with room, with the router %s', (_, router) => {
    const others = Array.from({ length: 9 }, (__, id) => fakeView(`full-${id}`, { freeBytes: 5 }));
    const candidates = indexOf(warm(), ...others, fakeView('roomy', { freeBytes: 50 }), fakeView('full-9', full));
    const ranks = router.chooseReplicas(candidates, { ...saturated, modelBytes: 50 });
    expect(ranks.flatMap((rank) => [...rank].map(({ id }) => id)).filter((id) => id !== 'warm')).toContain('roomy');
    expect(ranks.flatMap((rank) => [...rank].map(({ id }) => id)).some((id) => id.startsWith('full'))).toBe(false);
  });
});
