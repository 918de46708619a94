import { expect, it } from 'vitest';
import { ToldCounters } from '../../../dist/worker/process/told-counters.js';

it('tell what the process has counted, and are told what the engine has', () => {
  const counters = new ToldCounters();
  const { own } = counters;
  own.dispatchGiven(5);
  own.dispatchDone(3, 2);
  own.setBytes(70);
  expect(counters.counts).toEqual([2, 70, 0]);
  expect([own.ongoing, own.dispatches, own.isStopping, own.othersAtWork]).toEqual([0, 0, false, 0]);
  counters.told([1, 5, 3]);
  expect([own.isStopping, own.othersAtWork]).toEqual([true, 1]);
  counters.told([1, 5, 0]);
  expect([own.stopLevel, own.othersAtWork]).toEqual([1, 0]);
});

it('change the revision of the catalog when the one that is told changes, and not with the first', () => {
  const counters = new ToldCounters();
  const before = counters.own.catalogRevision;
  counters.told([0, 7, 0]);
  counters.told([0, 7, 0]);
  expect(counters.own.catalogRevision).toBe(before);
  counters.told([0, 8, 0]);
  expect(counters.own.catalogRevision).not.toBe(before);
});
