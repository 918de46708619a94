import type { RecordableHistogram } from 'node:perf_hooks';

/** Percentiles in milliseconds. */
export interface Percentiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

export function percentiles(
  histogram: Pick<RecordableHistogram, 'percentile'>,
  unitsPerMs: number,
  subtractMs = 0,
): Percentiles {
  const at = (percentile: number) => round(Math.max(0, histogram.percentile(percentile) / unitsPerMs - subtractMs), 3);
  return { p50: at(50), p95: at(95), p99: at(99) };
}

export function round(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
