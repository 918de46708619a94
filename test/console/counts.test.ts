import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { latencyOf } from '../../dist/console/watching/counts.js';

const BOUNDS = [0.001, 0.01, 0.1, 1];

/** The histogram of these values, in seconds. */
function histogramOf(values: readonly number[]) {
  const counts = BOUNDS.map((bound) => values.filter((value) => value <= bound).length);
  return { bounds: BOUNDS, counts, count: values.length, sum: values.reduce((sum, value) => sum + value, 0) };
}

describe('the percentiles of a histogram', () => {
  it('are unknown without values', () => expect(latencyOf(histogramOf([]))).toBeUndefined());

  it('lie evenly in a bucket', () => {
    const latency = latencyOf(histogramOf(Array.from({ length: 100 }, () => 0.005)));
    expect(latency?.p50).toBeCloseTo(5.5);
    expect(latency?.p99).toBeCloseTo(9.91);
  });

  it('end at the last bound', () => expect(latencyOf(histogramOf([5, 5, 5]))?.p99).toBe(1_000));

  it('lie in the bucket of the value that has so many below it, and in order', () => {
    fc.assert(
      fc.property(fc.array(fc.double({ min: 1e-6, max: 0.99, noNaN: true }), { minLength: 1 }), (values) => {
        const latency = latencyOf(histogramOf(values));
        const sorted = [...values].sort((left, right) => left - right);
        const at = (share: number) => sorted[Math.ceil(share * sorted.length) - 1] as number;
        const bucketOf = (seconds: number) => BOUNDS.findIndex((bound) => seconds <= bound + 1e-12);
        const { p50, p95, p99 } = latency as NonNullable<typeof latency>;
        expect(p50 <= p95 && p95 <= p99).toBe(true);
        for (const [found, share] of [
          [p50, 0.5],
          [p95, 0.95],
          [p99, 0.99],
        ] as const)
          expect(bucketOf(found / 1_000)).toBe(bucketOf(at(share)));
      }),
    );
  });
});
