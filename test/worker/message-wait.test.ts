import { beforeEach, describe, expect, it } from 'vitest';
import { MessageWait, type WaitCounters } from '../../dist/worker/message-wait.js';

/** Counters on a clock that moves by a microsecond with every look at it. */
class FakeCounters implements WaitCounters {
  time = 0;
  othersAtWork = 0;
  sleeps = 0;
  /** When the next message comes. */
  nextAt = 0;

  now = () => {
    this.time += 0.001;
    return this.time;
  };

  get posted(): number {
    return this.time >= this.nextAt ? 1 : 0;
  }

  sleepUntilPosted(): void {
    this.sleeps += 1;
    this.time = Math.max(this.time, this.nextAt);
  }
}

let counters: FakeCounters;

beforeEach(() => {
  counters = new FakeCounters();
});

/** Waits for messages that come so many milliseconds after each other. @returns how often it slept for each. */
function waitFor(cores: number, ...gapsMs: number[]): number[] {
  const wait = new MessageWait(counters, cores, counters.now);
  return gapsMs.map((gapMs) => {
    const before = counters.sleeps;
    counters.nextAt = counters.time + gapMs;
    wait.untilPosted(0);
    return counters.sleeps - before;
  });
}

describe('a thread that waits for a message', () => {
  it('sleeps as long as messages are far between', () => {
    expect(waitFor(2, 5, 5, 5)).toEqual([1, 1, 1]);
    expect(counters.time).toBeLessThan(16);
  });

  it('spins once one came soon, and no longer than a moment', () => {
    expect(waitFor(2, 0.05, 0.05, 0.05)).toEqual([1, 0, 0]);
    const spinsFrom = counters.time;
    expect(waitFor(2, 0.05, 500)).toEqual([1, 1]);
    expect(counters.time - spinsFrom).toBeLessThan(500.1);
  });

  it('sleeps again after one that was late', () => {
    expect(waitFor(2, 0.05, 0.05, 5, 0.05, 0.05)).toEqual([1, 0, 1, 1, 0]);
  });

  it('spins only where there is a core for it beside the calling thread and the replicas at work', () => {
    counters.othersAtWork = 1;
    expect(waitFor(2, 0.05, 0.05)).toEqual([1, 1]);
    expect(waitFor(3, 0.05, 0.05)).toEqual([1, 0]);
    counters.othersAtWork = 0;
    expect(waitFor(1, 0.05, 0.05)).toEqual([1, 1]);
  });
});
