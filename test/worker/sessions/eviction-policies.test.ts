import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { EvictableSession } from '../../../dist/contracts/eviction.js';
import { createEviction } from '../../../dist/worker/sessions/eviction-policies.js';

const session = (key: string, own: Partial<EvictableSession> = {}): EvictableSession => ({
  ...{ key, bytes: 1, loadMs: 1 },
  ...own,
});

describe('lru', () => {
  it('lets the least recently used go, whatever it costs', () => {
    const sessions = [session('old', { loadMs: 1_000 }), session('new')] as const;
    expect(createEviction('lru', () => 0).first(sessions).key).toBe('old');
  });
});

describe('cost-aware', () => {
  const told = (requests: Readonly<Record<string, number>>, now: () => number = () => 0) => {
    const eviction = createEviction('cost-aware', now);
    for (const [key, times] of Object.entries(requests)) eviction.requested(key, times);
    return eviction;
  };

  it.each([
    ['the one that fewer requests were for', { a: 3, b: 2 }, {}, 'b'],
    ['the one that is quicker to load', { a: 2, b: 2 }, { a: { loadMs: 10 }, b: { loadMs: 30 } }, 'a'],
    ['the one that takes more room', { a: 2, b: 2 }, { a: { bytes: 10 }, b: { bytes: 30 } }, 'b'],
    ['by all three together', { a: 2, b: 10 }, { a: { loadMs: 30, bytes: 2 }, b: { loadMs: 8, bytes: 4 } }, 'b'],
    ['of equal ones the least recently used', { a: 2, b: 2 }, {}, 'a'],
    ['one that nobody asked for', { b: 1 }, {}, 'a'],
  ] as const)('lets go %s', (_, requests, own, expected) => {
    const details = own as Readonly<Record<string, Partial<EvictableSession>>>;
    const sessions = [session('a', details['a']), session('b', details['b'])] as const;
    expect(told(requests).first(sessions).key).toBe(expected);
  });

  it('always names one of them, the one of least worth by its own formula while nothing has decayed', () => {
    const sessions = fc.array(
      fc.record({
        requests: fc.nat(50),
        loadMs: fc.integer({ min: 1, max: 100 }),
        bytes: fc.integer({ min: 1, max: 100 }),
      }),
      { minLength: 1, maxLength: 20 },
    );
    fc.assert(
      fc.property(sessions, (drawn) => {
        const eviction = createEviction('cost-aware', () => 5);
        const all = drawn.map(({ loadMs, bytes }, index) => session(`m${index}`, { loadMs, bytes }));
        drawn.forEach(({ requests }, index) => {
          if (requests > 0) eviction.requested(`m${index}`, requests);
        });
        const worth = drawn.map(({ requests, loadMs, bytes }) => (requests * loadMs) / bytes);
        const first = eviction.first(all as [EvictableSession, ...EvictableSession[]]);
        expect(worth[all.indexOf(first)]).toBe(Math.min(...worth));
      }),
    );
  });

  it('forgets what was asked for long ago, by how long sessions stay', () => {
    let now = 0;
    const eviction = told({ once: 100 }, () => now);
    // Two sessions, and one leaves every second: each stays for two seconds.
    const sessions = [session('once'), session('lately')] as const;
    for (; now < 60_000; now += 1_000) {
      eviction.requested('lately', 1);
      eviction.first(sessions);
    }
    expect(eviction.first(sessions).key).toBe('once');
  });

  it('counts several that leave for one that comes as one', () => {
    let now = 0;
    const eviction = told({ popular: 100 }, () => now);
    const sessions = [session('popular'), session('lately')] as const;
    for (now = 1_000; now < 5_000; now += 1_000) {
      eviction.requested('lately', 3);
      for (let leaving = 0; leaving < 5; leaving += 1) eviction.first(sessions);
    }
    expect(eviction.first(sessions).key).toBe('lately');
  });

  it('remembers a model that is not there, so that it does not begin anew', () => {
    const eviction = told({ popular: 50, present: 5 });
    const sessions = [session('present'), session('popular')] as const;
    expect(eviction.first(sessions).key).toBe('present');
  });

  it('keeps no more than some thousands in mind', () => {
    const eviction = createEviction('cost-aware', () => 0);
    eviction.requested('dear', 1_000);
    eviction.requested('once', 1);
    for (let index = 0; index < 100_000; index += 1) eviction.requested(`m${index}`, 2);
    expect(eviction.first([session('dear'), session('m99999')]).key).toBe('m99999');
    // It counts no more than one that was never asked for.
    expect(eviction.first([session('once'), session('never')]).key).toBe('once');
  });
});
