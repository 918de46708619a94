import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { changesOfPlace } from '../../../dist/observability/series/changes-of-place.js';

const used = (rates: Readonly<Record<string, number>>) => Object.entries(rates).map(([name, rate]) => ({ name, rate }));

describe('places', () => {
  it.each([
    ['a free place goes to the most used', { a: 1 }, { x: 1, y: 2 }, 2, [['y', undefined]]],
    [
      'all get a free place',
      {},
      { x: 1, y: 2 },
      3,
      [
        ['y', undefined],
        ['x', undefined],
      ],
    ],
    ['a small lead is not enough', { a: 0, b: 10 }, { x: 8 }, 2, []],
    ['nor is less than twice as much', { a: 100 }, { x: 208 }, 1, []],
    ['a clear lead takes the place of the least used', { a: 20, b: 10 }, { x: 29 }, 2, [['x', 'b']]],
    [
      'the next needs a clear lead over the next',
      { a: 10, b: 11 },
      { x: 40, y: 31 },
      2,
      [
        ['x', 'a'],
        ['y', 'b'],
      ],
    ],
    [
      'a free place first',
      { a: 1 },
      { x: 40, y: 30 },
      2,
      [
        ['x', undefined],
        ['y', 'a'],
      ],
    ],
  ] as const)('%s', (_, holders, challengers, places, changes) => {
    const found = changesOfPlace(used(holders), used(challengers), places);
    expect(found.map(({ gains, loses }) => [gains, loses])).toEqual(changes);
  });

  it('are all taken while there are challengers, and nobody moves when it is decided again', () => {
    const rates = fc.array(fc.nat(60), { maxLength: 12 });
    fc.assert(
      fc.property(rates, rates, fc.nat(4), (held, wanted, free) => {
        const holders = held.map((rate, index) => ({ name: `h${index}`, rate }));
        const challengers = wanted.map((rate, index) => ({ name: `c${index}`, rate }));
        const places = holders.length + free;
        const changes = changesOfPlace(holders, challengers, places);
        const loses = new Set(changes.map(({ loses }) => loses));
        const gains = new Set(changes.map(({ gains }) => gains));
        const after = [
          ...holders.filter(({ name }) => !loses.has(name)),
          ...challengers.filter(({ name }) => gains.has(name)),
        ];
        const losers = holders.filter(({ name }) => loses.has(name));
        const rest = [...challengers.filter(({ name }) => !gains.has(name)), ...losers];
        expect(after.length).toBe(Math.min(places, holders.length + challengers.length));
        expect(changesOfPlace(after, rest, places)).toEqual([]);
      }),
    );
  });
});
