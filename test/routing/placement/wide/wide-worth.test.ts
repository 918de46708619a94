import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { WideWorth } from '../../../../dist/routing/placement/wide/wide-worth.js';

const NARROW_MS = 10;
const LOAD_MS = 100;

let worth: WideWorth;
let now: number;

beforeEach(() => {
  worth = new WideWorth(2);
  now = 0;
});

function runNarrow(runs: number, ms = NARROW_MS): void {
  for (let run = 0; run < runs; run += 1) {
    now += ms;
    worth.ranNarrow(1, ms, now);
  }
}

/** @returns how many runs it took until the session was found not worth its memory; undefined when it never was. */
function runWide(runs: number, ms: number): number | undefined {
  for (let run = 1; run <= runs; run += 1) {
    now += ms;
    if (!worth.ranWide(1, ms)) return run;
  }
  return undefined;
}

function load(judge = worth): void {
  worth = judge;
  runNarrow(30);
  worth.loaded(now);
}

describe('a wide session is loaded', () => {
  it('when lone runs have lost as much time as the load takes, and not before ten of them', () => {
    runNarrow(19);
    expect(worth.isWorthLoading(LOAD_MS, now)).toBe(false);
    runNarrow(3);
    expect(worth.isWorthLoading(LOAD_MS, now)).toBe(true);
    const cheap = new WideWorth(2);
    for (let run = 0; run < 9; run += 1) cheap.ranNarrow(1, NARROW_MS, run);
    expect(cheap.isWorthLoading(1, 9)).toBe(false);
    cheap.ranNarrow(1, NARROW_MS, 9);
    expect(cheap.isWorthLoading(1, 9)).toBe(true);
  });

  it('but not for a model with one lone request a minute', () => {
    for (let run = 0; run < 1_000; run += 1) {
      now += 60_000;
      worth.ranNarrow(1, NARROW_MS, now);
    }
    expect(worth.isWorthLoading(LOAD_MS, now)).toBe(false);
  });

  it('and runs only while it is loaded', () => {
    runNarrow(30);
    expect(worth.mayRun).toBe(false);
    worth.loaded(now);
    expect(worth.mayRun).toBe(true);
    worth.gone();
    expect(worth.mayRun).toBe(false);
  });
});

describe('its runs', () => {
  it('are judged by the median of ten, without the first', () => {
    load();
    expect(runWide(1, 500)).toBe(undefined);
    expect(runWide(4, 100)).toBe(undefined);
    expect(runWide(200, 6)).toBe(undefined);
    expect(worth.expectedMs(1)).toBeCloseTo(6, 0);
  });

  it('must be clearly faster', () => {
    load();
    expect(runWide(100, 9)).toBe(10);
    load();
    expect(runWide(1_000, 8)).toBe(undefined);
  });

  it('are put to the test again when they become slow, after narrow ones', () => {
    load();
    runWide(100, 5);
    let runs = 0;
    for (; worth.mayRun; runs += 1) expect(runWide(1, 12)).toBe(undefined);
    expect(runs).toBeLessThan(100);
    runNarrow(9, 24);
    expect(worth.mayRun).toBe(false);
    runNarrow(1, 24);
    // The machine is slower for both.
    expect(worth.mayRun).toBe(true);
    expect(runWide(30, 12)).toBe(undefined);
    while (worth.mayRun) runWide(1, 40);
    runNarrow(10, 12);
    expect(runWide(30, 40)).toBe(10);
  });
});

describe('turns', () => {
  const runBeside = (runs: number, ms: number) => {
    for (let run = 0; run < runs; run += 1) worth.ranBesideOthers(1, ms);
  };

  it('are taken by as many requests as are answered clearly sooner wide, one after the other', () => {
    load(new WideWorth(8));
    runWide(20, 2);
    runBeside(20, 10);
    expect(worth.takesTurns(2)).toBe(false);
    runBeside(1, 10);
    expect([2, 3, 4, 5, 6].map((requests) => worth.takesTurns(requests))).toEqual([true, true, true, false, false]);
    runBeside(100, 15);
    expect(worth.takesTurns(6)).toBe(true);
  });

  it('are taken in a trial by those that would have cores of their own', () => {
    load(new WideWorth(8));
    expect([2, 4, 5].map((requests) => worth.takesTurns(requests))).toEqual([true, true, false]);
  });

  it('are not waited for by a short request while a long one runs', () => {
    load(new WideWorth(8));
    runWide(20, 2);
    runBeside(21, 10);
    expect(worth.isWorthWaiting(9, 1)).toBe(true);
    expect(worth.isWorthWaiting(11, 1)).toBe(false);
    expect(worth.isWorthWaiting(11, 10)).toBe(true);
  });

  it('give way to some narrow runs now and then, which show how long those take', () => {
    load(new WideWorth(8));
    runWide(20, 2);
    runBeside(21, 10);
    for (let turn = 0; turn < 4_999; turn += 1) worth.tookTurn();
    expect(worth.takesTurns(2)).toBe(true);
    worth.tookTurn();
    for (let run = 0; run < 21; run += 1) {
      expect(worth.takesTurns(2)).toBe(false);
      runBeside(1, 10);
    }
    expect(worth.takesTurns(2)).toBe(true);
  });

  it('that could not be taken make a session worth its load, too, but less', () => {
    const runsUntilLoad = (cores: number, requests: number) => {
      const judged = new WideWorth(cores);
      let runs = 0;
      for (; runs < 1_000 && !judged.isWorthLoading(LOAD_MS, runs); runs += 1) judged.ranNarrow(1, 10, runs, requests);
      return runs;
    };
    expect(runsUntilLoad(4, 2)).toBeGreaterThan(runsUntilLoad(4, 1));
    expect(runsUntilLoad(2, 2)).toBe(1_000);
  });
});

it('a session that was not worth it is not loaded again for ten seconds and twenty loads, then twice as long', () => {
  const pauseAfterFailure = () => {
    worth.loaded(now);
    worth.failed(LOAD_MS, now);
    const from = now;
    while (!worth.isWorthLoading(LOAD_MS, now)) runNarrow(1);
    return now - from;
  };
  runNarrow(100);
  expect(pauseAfterFailure()).toBeCloseTo(10_000, -2);
  expect(pauseAfterFailure()).toBeCloseTo(20_000, -2);
  expect(pauseAfterFailure()).toBeCloseTo(40_000, -2);
  worth.loaded(now);
  now += 400_000;
  worth.failed(2_000, now);
  const from = now;
  while (!worth.isWorthLoading(2_000, now)) runNarrow(1);
  expect(now - from).toBeCloseTo(40_000, -2);
});

it('at a steady load a session comes and goes once in ten loads at most, however much its runs vary', () => {
  const ms = fc.double({ min: 1, max: 40, noNaN: true });
  fc.assert(
    fc.property(fc.array(ms, { minLength: 5, maxLength: 50 }), fc.integer({ min: 1, max: 2_000 }), (times, loadMs) => {
      const judged = new WideWorth(2);
      const comings: number[] = [];
      let at = 0;
      for (let run = 0; run < 20_000; run += 1) {
        const runMs = times[run % times.length] as number;
        at += runMs;
        if (judged.mayRun) {
          if (!judged.ranWide(1, runMs)) judged.failed(loadMs, at);
        } else judged.ranNarrow(1, runMs, at);
        if (!judged.mayRun && judged.isWorthLoading(loadMs, at)) {
          at += loadMs;
          judged.loaded(at);
          comings.push(at);
        }
      }
      for (const [index, coming] of comings.entries()) {
        if (index > 0) expect(coming - (comings[index - 1] as number)).toBeGreaterThan(10 * loadMs);
      }
    }),
    { numRuns: 50 },
  );
});
