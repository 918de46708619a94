import { expect, it } from 'vitest';
import { COMPARED_CALLS as FEW, LargeJoins } from '../../../dist/routing/batches/large-joins.js';

const BYTES = 1_000_000;

/** Asks which way is chosen, and answers that this way takes so long, so many times. @returns the joined ones. */
function play(joins: LargeJoins, times: number, ms: { alone: number; joined: number }, bytes = BYTES): number {
  let joined = 0;
  for (let call = 0; call < times; call += 1) {
    const isJoined = joins.isWorthIt(bytes);
    if (isJoined) joined += 1;
    joins.add(bytes, isJoined ? 4 : 1, isJoined ? 4 * ms.joined : ms.alone);
  }
  return joined;
}

it('runs the first requests alone, then tries them joined, and goes on in the faster way', () => {
  const joins = new LargeJoins();
  expect(play(joins, FEW, { alone: 2, joined: 1 })).toBe(0);
  expect(play(joins, FEW, { alone: 2, joined: 1 })).toBe(FEW);
  expect(play(joins, 50, { alone: 2, joined: 1 })).toBe(50);
  const slower = new LargeJoins();
  play(slower, 2 * FEW, { alone: 1, joined: 2 });
  expect(play(slower, 50, { alone: 1, joined: 2 })).toBe(0);
});

it('does not join for a gain within what times vary by', () => {
  const joins = new LargeJoins();
  play(joins, 2 * FEW, { alone: 1, joined: 0.97 });
  expect(play(joins, 50, { alone: 1, joined: 0.97 })).toBe(0);
});

it('tries the slower way again now and then, ever less often, and finds out when it has become the faster one', () => {
  const joins = new LargeJoins();
  play(joins, 2 * FEW, { alone: 1, joined: 2 });
  expect(play(joins, 64 + FEW, { alone: 1, joined: 2 })).toBe(FEW);
  expect(play(joins, 10_000, { alone: 1, joined: 2 })).toBeLessThan(8 * FEW);
  expect(play(joins, 10_000, { alone: 2, joined: 1 })).toBeGreaterThan(5_000);
});

it('does not try to join requests whose runs are hardly longer than a copy', () => {
  expect(play(new LargeJoins(), 1_000, { alone: 0.3, joined: 0.1 })).toBe(0);
  expect(play(new LargeJoins(), 1_000, { alone: 0.5, joined: 0.1 })).toBeGreaterThan(900);
  // The first runs may be slow.
  const joins = new LargeJoins();
  play(joins, 1, { alone: 0.3, joined: 0.1 });
  expect(play(joins, 1_000, { alone: 0.5, joined: 0.1 })).toBe(0);
});

it('joins two requests at first', () => {
  const joins = new LargeJoins();
  play(joins, FEW, { alone: 2, joined: 1 });
  expect(joins.mostRequests(BYTES)).toBe(2);
  play(joins, FEW, { alone: 2, joined: 1 });
  expect(joins.mostRequests(BYTES)).toBe(Number.POSITIVE_INFINITY);
});

it('measures each size by itself, and forgets sizes when there are many', () => {
  const joins = new LargeJoins();
  play(joins, 2 * FEW, { alone: 2, joined: 1 });
  expect(joins.isWorthIt(2 * BYTES)).toBe(false);
  for (let size = 1; size <= 64; size += 1) play(joins, 1, { alone: 1, joined: 1 }, size);
  expect(joins.isWorthIt(BYTES)).toBe(false);
});
