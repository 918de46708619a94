import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { hadRecovered, RestartPace, restartDelayMs } from '../../dist/replicas/restart-backoff.js';

it.each([
  [1, 0],
  [3, 0],
  [4, 1_000],
  [5, 2_000],
  [10, 64_000],
  [1_000, 64_000],
])('after %d failures in a row the pause is %d ms', (failures, delayMs) => {
  expect(restartDelayMs(failures)).toBe(delayMs);
});

it.each([
  ['answered nothing, and died soon', 9_999, 0, false],
  ['answered one request, with an error or without', 1, 1, true],
  ['answered many', 500, 700, true],
  ['had nothing to answer for long', 10_000, 0, true],
])('a replica that %s: whether it can start', (_, ranMs, answered, expected) => {
  expect(hadRecovered(ranMs, answered)).toBe(expected);
});

describe('the pace of restarts', () => {
  it('lets three go at once, and then two in a second', () => {
    const pace = new RestartPace();
    expect([0, 0, 0, 0, 500, 1_000].map((now) => pace.delayMs(now))).toEqual([0, 0, 0, 500, 500, 500]);
    expect([0, 0, 0, 0].map((later) => pace.delayMs(60_000 + later))).toEqual([0, 0, 0, 500]);
  });

  it('never makes anybody wait for longer, and never lets more go, however long replicas ran', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(2_000), { minLength: 1, maxLength: 60 }), (ran) => {
        const pace = new RestartPace();
        const starts: number[] = [];
        let now = 0;
        for (const ranMs of ran) {
          now += ranMs;
          const delayMs = pace.delayMs(now);
          expect(delayMs).toBeGreaterThanOrEqual(0);
          expect(delayMs).toBeLessThanOrEqual(500);
          now += delayMs;
          starts.push(now);
        }
        for (const [index, start] of starts.entries()) {
          const inTheNextSecond = starts.slice(index).filter((other) => other < start + 1_000).length;
          expect(inTheNextSecond).toBeLessThanOrEqual(5);
        }
      }),
    );
  });
});
