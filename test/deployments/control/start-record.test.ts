import { expect, it } from 'vitest';
import { StartRecord } from '../../../dist/deployments/control/start-record.js';

it.each([
  [0, 3],
  [1, 3],
  [2, 6],
  [6, 18],
  [7, 20],
  [100, 20],
])('%d replicas have missed their target after %d failed starts', (replicas, most) => {
  const starts = new StartRecord();
  for (let start = 1; start < most; start += 1) starts.startFailed();
  expect(starts.missed(replicas)).toBeUndefined();
  starts.startFailed();
  expect(starts.missed(replicas)).toBe(most);
});

it('one that runs, or ran, is enough for hope', () => {
  const starts = new StartRecord();
  const failOften = () => {
    for (let start = 0; start < 30; start += 1) starts.startFailed();
  };
  starts.ran();
  failOften();
  expect(starts.missed(1)).toBeUndefined();
  starts.begin(true);
  failOften();
  expect(starts.missed(1)).toBeUndefined();
  starts.begin(false);
  failOften();
  expect(starts.missed(1)).toBe(30);
});
