import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Answer, rateOf, runsOf, runsUntilFast, runsUntilFull } from '../../bench/load/heavy/runs.js';

const answer = (at: number, replica: string, batchSize: number): Answer => ({ at, replica, batchSize, latencyMs: 1 });
/** Runs of one request every ten milliseconds, the first of which ends after `from`. */
const steady = (from: number, count: number) =>
  Array.from({ length: count }, (_, index) => ({ endedAt: from + 10 * (index + 1), requests: 1 }));

it('finds the runs behind the answers of two replicas', () => {
  const answers = [answer(1, 'a', 2), answer(2, 'b', 1), answer(3, 'a', 2), answer(4, 'b', 3), answer(5, 'a', 1)];
  const open = [...answers, answer(6, 'b', 3)];
  const runs = [
    { endedAt: 2, requests: 1 },
    { endedAt: 3, requests: 2 },
    { endedAt: 5, requests: 1 },
  ];
  expect(runsOf(open)).toEqual(runs);
  expect(runsOf([...open, answer(7, 'b', 3)])).toEqual([...runs, { endedAt: 7, requests: 3 }]);
});

it('counts each answer of a whole run once', () => {
  const batches = fc.array(fc.record({ replica: fc.constantFrom('a', 'b'), size: fc.integer({ min: 1, max: 9 }) }));
  fc.assert(
    fc.property(batches, (all) => {
      const answers = all.flatMap(({ replica, size }, at) => Array(size).fill(answer(at, replica, size)));
      expect(runsOf(answers).map(({ requests }) => requests)).toEqual(all.map(({ size }) => size));
    }),
  );
});

it('tells requests per second from run to run, whatever the edges of the window', () => {
  const runs = steady(0, 20);
  for (const to of [151, 155, 159]) expect(rateOf(runs, 45, to)).toBeCloseTo(100);
  expect(rateOf(runs, 45, 55)).toBe(0);
  expect(rateOf(runs, 300, 400)).toBe(0);
});

it('counts the requests that a lone caller sends before they are fast', () => {
  expect(runsUntilFast([10, 10, 10, 10], 10)).toBe(0);
  expect(runsUntilFast([30, 30, 30, 11, 11, 11], 10)).toBe(2);
  expect(runsUntilFast([30, 10, 30, 30, 30, 10, 30], 10)).toBe(7);
});

it('counts the runs that end before requests are answered quickly', () => {
  expect(runsUntilFull(steady(0, 20), 0, 100)).toBe(0);
  const late = [{ endedAt: 200, requests: 1 }, ...steady(200, 20)];
  expect(runsUntilFull(late, 0, 100)).toBe(1);
  expect(runsUntilFull(steady(0, 20), 0, 200)).toBe(20);
});
