import { beforeEach, expect, it } from 'vitest';
import { RoutingStatsCalls } from '../../../dist/deployments/health/routing-stats-calls.js';
import { FakeClock } from '../../support/fakes/fake-clock.js';
import { flush } from '../../support/flush.js';

let clock: FakeClock;
let failures: string[];
let random: number;

interface Replica {
  recordRoutingStats(isLate: () => boolean): Promise<void>;
}

beforeEach(() => {
  clock = new FakeClock();
  failures = [];
  random = 0.5;
});

const callsOf = (settings = { periodMs: 100, timeoutMs: 50 }) =>
  new RoutingStatsCalls<Replica>(
    () => settings,
    clock,
    () => random,
    (_, reason) => failures.push(reason),
  );

async function advance(milliseconds: number): Promise<void> {
  clock.advance(milliseconds);
  await flush();
}

it.each([
  [0, 90],
  [0.5, 100],
  [1, 110],
])('asks a period after the last answer, give or take a tenth (random %d: %d ms)', async (drawn, delayMs) => {
  random = drawn;
  let asked = 0;
  callsOf().watch({
    recordRoutingStats: async () => {
      asked += 1;
    },
  });
  await advance(delayMs - 1);
  expect(asked).toBe(0);
  await advance(1);
  expect(asked).toBe(1);
  await advance(delayMs);
  expect(asked).toBe(2);
});

it('tells of a call that fails, and goes on', async () => {
  callsOf().watch({ recordRoutingStats: () => Promise.reject(new Error('broken')) });
  await advance(100);
  await advance(100);
  expect(failures).toEqual(['broken', 'broken']);
});

it('gives up a call that is late, whose answer then counts no more', async () => {
  let answer: () => void = () => undefined;
  let isLate: () => boolean = () => false;
  callsOf().watch({
    recordRoutingStats: (late) => {
      isLate = late;
      return new Promise((resolve) => {
        answer = resolve;
      });
    },
  });
  await advance(100);
  expect(isLate()).toBe(false);
  await advance(50);
  expect(failures).toEqual(['no answer within 50 ms']);
  expect(isLate()).toBe(true);
  // Nor is another one made as long as it is open.
  await advance(10_000);
  expect(failures).toHaveLength(1);
  answer();
  await flush();
  await advance(100);
  expect(isLate()).toBe(false);
});

it('asks a replica that is gone no more', async () => {
  let asked = 0;
  const calls = callsOf();
  const replica = {
    recordRoutingStats: async () => {
      asked += 1;
      throw new Error('gone');
    },
  };
  calls.watch(replica);
  clock.advance(100);
  calls.forget(replica);
  await advance(1_000);
  expect(asked).toBe(1);
  expect(failures).toEqual([]);
  expect(clock.timers).toBe(0);
});
