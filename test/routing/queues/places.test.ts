import fc from 'fast-check';
import { expect, it } from 'vitest';
import { Places } from '../../../dist/routing/queues/places.js';

const step = fc.oneof(
  { weight: 4, arbitrary: fc.constant('add' as const) },
  { weight: 2, arbitrary: fc.constant('take' as const) },
  { weight: 1, arbitrary: fc.constant('give up' as const) },
);

it('has the first place taken by whoever goes first, and one place for each that waits', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fc.nat(50)), { maxLength: 200, size: 'max' }), (steps) => {
      const places = new Places();
      const waiting: number[] = [];
      let expected: number[] = [];
      for (const [sequence, [kind, at]] of steps.entries()) {
        const one = waiting[at % Math.max(1, waiting.length)];
        if (kind === 'add') {
          waiting.push(sequence);
          expected.push(sequence);
          places.add(sequence);
        } else if (one !== undefined) {
          waiting.splice(waiting.indexOf(one), 1);
          const isTaken = kind === 'take' || !expected.includes(one);
          expected = isTaken ? expected.slice(1) : expected.filter((place) => place !== one);
          if (kind === 'take') places.takeFirst();
          else places.giveUp(one);
        }
        expect(places.first).toBe(expected[0]);
      }
    }),
  );
});

it('gives a request that comes back the first place', () => {
  const places = new Places();
  for (const sequence of [3, 5, 8]) places.add(sequence);
  places.takeFirst();
  places.takeFirst();
  places.add(5);
  expect(places.first).toBe(5);
  places.takeFirst();
  places.add(9);
  places.add(2);
  expect(places.first).toBe(2);
  places.takeFirst();
  expect(places.first).toBe(8);
});

it('is right after thousands of places were left', () => {
  const places = new Places();
  for (let sequence = 0; sequence < 5_000; sequence += 1) {
    places.add(sequence);
    if (sequence >= 10) places.takeFirst();
    if (sequence >= 10) expect(places.first).toBe(sequence - 9);
  }
});
