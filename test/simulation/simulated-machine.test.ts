import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SimulatedMachine, type Work } from '../../bench/simulation/machine/simulated-machine.js';
import { VirtualClock } from '../../bench/simulation/machine/virtual-clock.js';

interface Arrival extends Work {
  readonly at: number;
}

/** Returns when each work ends. */
function endsOf(cores: number, arrivals: readonly Arrival[]): number[] {
  const clock = new VirtualClock();
  const machine = new SimulatedMachine(clock, cores);
  const ends = arrivals.map(() => Number.NaN);
  arrivals.forEach((arrival, index) => {
    clock.after(arrival.at, () => {
      machine.begin(arrival, () => {
        ends[index] = clock.now();
      });
    });
  });
  while (clock.step());
  return ends;
}

const work = (at: number, milliseconds: number, own: Partial<Arrival> = {}): Arrival => {
  return { at, milliseconds, threads: 1, goesFirst: false, ...own };
};

describe('the simulated machine', () => {
  it('gives each work its cores while there are enough', () => {
    expect(endsOf(2, [work(0, 10), work(3, 5)])).toEqual([10, 8]);
  });

  it('shares cores in proportion when there are too few', () => {
    // Alone until 4, at half the speed until the other has done its 3 at 10, and alone again.
    expect(endsOf(1, [work(0, 10), work(4, 3)])).toEqual([13, 10]);
    // Three threads on two cores.
    expect(endsOf(2, [work(0, 10, { threads: 2 }), work(0, 10)])).toEqual([15, 15]);
  });

  it('lets work that goes first have its cores', () => {
    expect(endsOf(1, [work(0, 10), work(2, 3, { goesFirst: true })])).toEqual([13, 5]);
    expect(endsOf(2, [work(0, 10), work(0, 10), work(0, 4, { goesFirst: true })])).toEqual([12, 12, 4]);
  });

  it('says how many times as long a work took, and frees the cores of one that is ended before', () => {
    const clock = new VirtualClock();
    const machine = new SimulatedMachine(clock, 1);
    const slowdowns: number[] = [];
    const end = machine.begin(work(0, 10), (slowdown) => slowdowns.push(slowdown));
    machine.begin(work(0, 10), (slowdown) => slowdowns.push(slowdown));
    clock.after(4, end);
    while (clock.step());
    expect(slowdowns).toEqual([1.2]);
    expect(clock.now()).toBe(12);
  });

  it('never does more work than its cores can, nor leaves one idle that is needed', () => {
    const arrival = fc.record({
      at: fc.integer({ min: 0, max: 50 }),
      milliseconds: fc.integer({ min: 1, max: 30 }),
      threads: fc.constantFrom(1, 2),
      goesFirst: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 3 }),
        fc.array(arrival, { minLength: 1, maxLength: 12 }),
        (cores, arrivals) => {
          const ends = endsOf(cores, arrivals);
          arrivals.forEach(({ at, milliseconds }, index) => {
            expect(ends[index]).toBeGreaterThanOrEqual(at + milliseconds - 1e-6);
          });
          const coreMs = arrivals.reduce((sum, { milliseconds, threads }) => sum + milliseconds * threads, 0);
          const last = Math.max(...ends);
          expect(last * cores).toBeGreaterThanOrEqual(coreMs - 1e-6);
          // At any time some core works, so all is done after the last arrival and all the work on one core.
          expect(last).toBeLessThanOrEqual(50 + coreMs + 1e-6);
          const all = arrivals.map((each) => ({ ...each, at: 0, threads: 1, goesFirst: false }));
          const ownMs = all.map(({ milliseconds }) => milliseconds);
          const total = ownMs.reduce((sum, milliseconds) => sum + milliseconds, 0);
          // On one core, all work that is there from the start is done when the core has done it.
          expect(Math.max(...endsOf(1, all))).toBeCloseTo(total, 6);
        },
      ),
      { numRuns: 200 },
    );
  });
});
