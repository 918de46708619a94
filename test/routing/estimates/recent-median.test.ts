import { expect, it } from 'vitest';
import { RecentMedian } from '../../../dist/routing/estimates/recent-median.js';

function medians(...samples: number[]): (number | undefined)[] {
  const median = new RecentMedian();
  return samples.map((sample) => {
    median.add(sample);
    return median.value;
  });
}

it('is known from the third sample on, and a sample that stands out does not move it', () => {
  expect(medians(9, 1, 1, 50, 1, 1)).toEqual([undefined, undefined, 1, 1, 1, 1]);
});

it('follows a lasting change at the second sample', () => {
  expect(medians(1, 1, 1, 100, 100, 100, 2, 2)).toEqual([undefined, undefined, 1, 1, 100, 100, 100, 2]);
});
