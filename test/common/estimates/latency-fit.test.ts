import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  expectedMs,
  type LatencyEstimate,
  LatencyFit,
  largestWithin,
} from '../../../dist/common/estimates/latency-fit.js';

const estimateOf = (...calls: readonly (readonly [size: number, ms: number])[]): LatencyEstimate => {
  const fit = new LatencyFit();
  for (const [size, ms] of calls) fit.add(size, ms);
  return fit.estimate() as LatencyEstimate;
};

it('knows nothing before the first call', () => {
  expect(new LatencyFit().estimate()).toBeUndefined();
});

it('finds a and b of latency = a·n + b from calls of different sizes', () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0.001, max: 10, noNaN: true }),
      fc.double({ min: 0, max: 10, noNaN: true }),
      fc.array(fc.integer({ min: 1, max: 128 }), { minLength: 3, maxLength: 50 }),
      (slope, base, sizes) => {
        fc.pre(new Set(sizes).size > 1 && Math.max(...sizes) > 2 * Math.min(...sizes));
        const estimate = estimateOf(...sizes.map((size) => [size, slope * size + base] as const));
        expect(expectedMs(estimate, 64)).toBeCloseTo(slope * 64 + base, 4);
      },
    ),
  );
});

describe('the largest size within a time', () => {
  it('doubles step by step as long as calls are quick', () => {
    const fit = new LatencyFit();
    const sizes: number[] = [];
    for (let call = 0, size = 1; call < 8; call += 1) {
      fit.add(size, 0.1 + 0.001 * size);
      size = Math.min(64, largestWithin(fit.estimate() as LatencyEstimate, 5));
      sizes.push(size);
    }
    expect(sizes).toEqual([2, 4, 8, 16, 32, 64, 64, 64]);
  });

  it('is what the line allows', () => {
    expect(largestWithin(estimateOf([1, 2], [16, 17], [8, 9]), 11)).toBe(10);
  });

  it('stays at one where two take twice as long, and is tried again after more and more calls, a thousand at last', () => {
    const fit = new LatencyFit();
    const sizes: number[] = [];
    for (let call = 0; call < 5_000; call += 1) {
      const estimate = fit.estimate();
      const size = estimate === undefined ? 1 : largestWithin(estimate, 15);
      fit.add(size, 10 * size);
      sizes.push(size);
    }
    expect(Math.max(...sizes)).toBe(2);
    const tries = sizes.flatMap((size, call) => (size === 2 ? [call] : []));
    const gaps = tries.slice(1).map((call, index) => call - (tries[index] as number));
    expect(gaps[0]).toBeLessThan(100);
    expect(gaps).toEqual([...gaps].sort((left, right) => left - right));
    expect(gaps.at(-1)).toBeGreaterThanOrEqual(1_000);
  });

  it('is tried again soon after small calls, where larger ones have paid', () => {
    const fit = new LatencyFit();
    const call = (most: number) => {
      const estimate = fit.estimate();
      const size = Math.min(most, estimate === undefined ? 1 : largestWithin(estimate, 15));
      fit.add(size, 9 + size);
      return size;
    };
    for (let phase = 0; phase < 20; phase += 1) {
      for (let small = 0; small < 200; small += 1) call(1);
      const sizes = Array.from({ length: 10 }, () => call(8));
      expect(Math.min(...sizes.slice(5))).toBeGreaterThanOrEqual(5);
    }
  });

  it('is at least one, however long a call takes', () => {
    expect(largestWithin(estimateOf([1, 1_000]), 5)).toBe(1);
    expect(largestWithin(estimateOf([1, 1_000], [8, 8_000]), 5)).toBe(1);
  });

  it('is twice what was tried where larger calls take no longer', () => {
    expect(largestWithin(estimateOf([1, 10], [8, 9]), 5)).toBe(16);
  });
});
