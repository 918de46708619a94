import { beforeEach, describe, expect, it } from 'vitest';
import { MessageWait, type WaitCounters } from '../../../dist/worker/loop/message-wait.js';

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

const times = <T>(count: number, value: T): T[] => Array<T>(count).fill(value);

describe('a thread that waits for a message', () => {
  it('sleeps as long as messages are far between', () => {
    expect(waitFor(2, ...times(20, 5))).toEqual(times(20, 1));
    expect(counters.time).toBeLessThan(101);
  });

  it('spins once several in a row came soon, and no longer than a moment', () => {
    expect(waitFor(2, ...times(12, 0.05))).toEqual([...times(8, 1), ...times(4, 0)]);
    const spinsFrom = counters.time;
    expect(waitFor(2, ...times(8, 0.05), 500)).toEqual(times(9, 1));
    expect(counters.time - spinsFrom).toBeLessThan(501);
  });

  it('sleeps again after one that was late', () => {
    const gaps = [...times(9, 0.05), 5, ...times(9, 0.05)];
    expect(waitFor(2, ...gaps)).toEqual([...times(8, 1), 0, 1, ...times(8, 1), 0]);
  });

  it('spins only where there is a core for it beside the calling thread and the replicas at work', () => {
    const gaps = times(9, 0.05);
    counters.othersAtWork = 1;
    expect(waitFor(2, ...gaps).at(-1)).toBe(1);
    expect(waitFor(3, ...gaps).at(-1)).toBe(0);
    counters.othersAtWork = 0;
    expect(waitFor(1, ...gaps).at(-1)).toBe(1);
  });
});
