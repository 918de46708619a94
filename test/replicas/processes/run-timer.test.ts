import { beforeEach, expect, it } from 'vitest';
import { RunTimer } from '../../../dist/replicas/processes/run-timer.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';

let clock: FakeClock;
let overruns: number;
let timer: RunTimer;

beforeEach(() => {
  clock = new FakeClock();
  overruns = 0;
  timer = new RunTimer(clock, 100, () => {
    overruns += 1;
  });
});

it('tells of a run that takes longer, once', () => {
  timer.watch(1);
  clock.advance(99);
  // Another one was given ahead: the first is still the oldest.
  timer.watch(1);
  expect(overruns).toBe(0);
  clock.advance(1);
  expect(overruns).toBe(1);
  clock.advance(1_000);
  expect(overruns).toBe(1);
});

it('begins anew with the next run, and does not count while there is none', () => {
  timer.watch(1);
  clock.advance(99);
  timer.watch(2);
  clock.advance(99);
  timer.watch(undefined);
  clock.advance(1_000);
  timer.watch(3);
  clock.advance(99);
  expect(overruns).toBe(0);
  clock.advance(1);
  expect(overruns).toBe(1);
});

it('leaves the time of loads to their own bound', () => {
  timer.watch(1);
  timer.loadBegan();
  clock.advance(1_000);
  timer.loadEnded();
  clock.advance(99);
  expect(overruns).toBe(0);
  clock.advance(1);
  expect(overruns).toBe(1);
});

it('has no bound with -1, and none after its end', () => {
  const unbounded = new RunTimer(clock, -1, () => {
    overruns += 1;
  });
  unbounded.watch(1);
  timer.watch(1);
  timer.stop();
  clock.advance(10_000);
  expect(overruns).toBe(0);
});
