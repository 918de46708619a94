import { median } from '../../../bench/load/measurements.js';

/** A series that something else on the host has slowed down is followed by another one. */
const MOST_SERIES = 3;

/**
 * Measures series of shares until the median of one reaches a bound. While something else on the host takes a core, which lasts up
 * to half a minute, what has several programs loses more than what it is compared with, and what comes later is slower than what
 * came before: such a series says nothing. A share that is really too small is so in each series.
 *
 * @returns the largest median.
 */
export async function bestSeries(bound: number, measure: () => Promise<readonly number[]>): Promise<number> {
  let best = 0;
  for (let series = 0; series < MOST_SERIES && best < bound; series += 1) {
    best = Math.max(best, median(await measure()));
  }
  return best;
}
