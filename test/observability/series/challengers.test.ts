import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Challengers } from '../../../dist/observability/series/challengers.js';

/** Uses of a few names, mixed with ever new ones. */
const uses = fc.array(fc.oneof(fc.constantFrom('a', 'b', 'c'), fc.integer({ min: 0, max: 50 }).map(String)), {
  maxLength: 300,
});

function countsOf(names: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

describe('challengers', () => {
  it('are at most as many as there are records, and each was used between its rate and that with what it inherited', () => {
    fc.assert(
      fc.property(uses, fc.integer({ min: 1, max: 8 }), (names, most) => {
        const challengers = new Challengers(most);
        for (const name of names) challengers.used(name);
        const counts = countsOf(names);
        expect(challengers.all.length).toBe(Math.min(most, counts.size));
        for (const { name, rate, inherited } of challengers.all) {
          expect(rate).toBeLessThanOrEqual(counts.get(name) ?? 0);
          expect(rate + inherited).toBeGreaterThanOrEqual(counts.get(name) ?? 0);
        }
      }),
    );
  });

  it('hold every name that has more than one of so many uses', () => {
    fc.assert(
      fc.property(uses, fc.integer({ min: 1, max: 8 }), (names, most) => {
        const challengers = new Challengers(most);
        for (const name of names) challengers.used(name);
        const held = new Set(challengers.all.map(({ name }) => name));
        const frequent = [...countsOf(names)].filter(([, count]) => count > names.length / most);
        expect(frequent.filter(([name]) => !held.has(name))).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });

  it('keep their order when they decay, and take over the least used record afterwards too', () => {
    const challengers = new Challengers(3);
    for (const name of ['a', 'a', 'a', 'b', 'b', 'c']) challengers.used(name);
    challengers.decay(0.1);
    challengers.used('d');
    const rates = challengers.all.map(({ name, rate }) => [name, rate]);
    expect(rates).toEqual([
      ['a', expect.closeTo(0.3)],
      ['b', expect.closeTo(0.2)],
      ['d', 1],
    ]);
  });

  it('make room when one is forgotten, which tells its rate', () => {
    const challengers = new Challengers(2);
    for (const name of ['a', 'a', 'b']) challengers.used(name);
    expect([challengers.forget('a'), challengers.forget('a')]).toEqual([2, 0]);
    challengers.add('c', 5);
    expect(challengers.all.map(({ name, rate, inherited }) => [name, rate, inherited])).toEqual([
      ['b', 1, 0],
      ['c', 5, 0],
    ]);
  });
});
