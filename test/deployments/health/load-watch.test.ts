import { beforeEach, expect, it } from 'vitest';
import { LoadWatch } from '../../../dist/deployments/health/load-watch.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';

let clock: FakeClock;
let timeoutMs: number | undefined;
let overdue: string[];
let watch: LoadWatch<{ readonly id: string }>;

const replica = { id: 'r0' };
const small = { id: 'small', bytes: 1_600 };

beforeEach(() => {
  clock = new FakeClock({ defers: true });
  timeoutMs = 50;
  overdue = [];
  watch = new LoadWatch(
    () => timeoutMs,
    clock,
    ({ id }, { code, retryable, message }) => overdue.push(`${id} ${code} ${retryable}: ${message}`),
  );
});

function advance(milliseconds: number): void {
  clock.advance(milliseconds);
  clock.runDeferred();
}

it('tells once of a load that takes too long', () => {
  watch.begun(replica, small);
  advance(49);
  expect(overdue).toEqual([]);
  advance(1);
  expect(overdue).toEqual([
    expect.stringMatching(/^r0 MODEL_LOAD_FAILED true: model "small" did not load within 50 ms, .*loadTimeoutMs$/),
  ]);
  advance(10_000);
  expect(overdue).toHaveLength(1);
});

it('says nothing of a load that ends in time, and gives the next one all of the time', () => {
  watch.begun(replica, small);
  advance(40);
  watch.ended(replica);
  watch.begun(replica, small);
  advance(40);
  expect(overdue).toEqual([]);
  watch.ended(replica);
  expect(clock.timers).toBe(0);
  advance(10_000);
  expect(overdue).toEqual([]);
});

it('reads what the replica has reported before it gives up on it', () => {
  watch.begun(replica, small);
  clock.advance(50);
  watch.ended(replica);
  clock.runDeferred();
  expect(overdue).toEqual([]);
});

it('gives each load without a setting two minutes, and a second more for each 5 MB', () => {
  timeoutMs = undefined;
  watch.begun(replica, small);
  watch.begun({ id: 'r1' }, { id: 'large', bytes: 10_000_000_000 });
  advance(120_000);
  expect(overdue).toEqual([]);
  advance(1);
  expect(overdue.map((line) => line.slice(0, 2))).toEqual(['r0']);
  advance(1_999_998);
  expect(overdue).toHaveLength(1);
  advance(1);
  expect(overdue.map((line) => line.slice(0, 2))).toEqual(['r0', 'r1']);
});

it('gives a load no bound where there is none', () => {
  timeoutMs = -1;
  watch.begun(replica, small);
  expect(clock.timers).toBe(0);
});
