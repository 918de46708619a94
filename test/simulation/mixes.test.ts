import { describe, expect, it } from 'vitest';
import {
  BURSTS,
  CHANGING,
  COLD,
  isSteady,
  MIXES,
  type Mix,
  SHORT_BESIDE_LONG,
  TURNING,
} from '../../bench/simulation/mixes/mix.js';
import { hasRoom, type MixResult, MixResults, serversOf } from '../../bench/simulation/mixes/mix-results.js';
import { type Server, simulateMix } from '../../bench/simulation/mixes/mix-simulation.js';

/** Rows that cost more than half as much again as the best that can be fixed by hand, and why. */
const COSTLY: Readonly<Record<string, string>> = {
  'heavy, 1, 16 and 1 callers, heavy': 'the second narrow session is loaded when the 16 callers come',
  '0.3 ms, 6 a minute, beside 8 callers of 125 ms, short': 'so few do not pay for an express replica all the time',
  '0.3 ms at random beside 1 caller of 125 ms, long': 'the replica that runs the short ones is never quiet for a load',
  'bursts of 60 for a new small model, new': 'the first run after a load is for one request, so that others load too',
};
const few = MIXES.filter((mix) => mix.cores === 2 || mix === BURSTS);
const seen = new Map<string, MixResult>();

function resultOf(mix: Mix, server: Server): MixResult {
  const name = `${mix.name}\n${server}`;
  const result = seen.get(name) ?? { mix, server, outcomes: [simulateMix(mix, server, 1)] };
  seen.set(name, result);
  return result;
}
const resultsOf = (mix: Mix) => new MixResults(serversOf(mix).map((server) => resultOf(mix, server)));
const rowOf = (mix: Mix, index = 0) => {
  const row = resultsOf(mix).rowsOf(mix)[index];
  if (row === undefined) throw new Error(`"${mix.name}" has no row ${index}`);
  return row;
};
const named = (text: string) => few.find(({ name }) => name === text) as Mix;

describe('the simulated mixes', () => {
  it('are the same for the same seed, and others for another', () => {
    const mix = named('heavy, offered 0.7');
    expect(simulateMix(mix, 'narrow', 1)).toEqual(resultOf(mix, 'narrow').outcomes[0]);
    expect(simulateMix(mix, 'narrow', 2)).not.toEqual(resultOf(mix, 'narrow').outcomes[0]);
  });

  it('take as long as the speed-up of threads says', () => {
    const row = rowOf(named('heavy, callers: 1'));
    expect(row.of('narrow', 'meanMs')).toBeCloseTo(15, 1);
    expect(row.of('one wide replica', 'meanMs')).toBeCloseTo(15 * (0.1 + 0.9 / 2), 1);
  });

  it.each(few.filter(isSteady))('bring nothing that comes and goes: $name', (mix) => {
    const results = resultsOf(mix);
    expect(results.of(mix, 'default').outcomes[0]?.failed).toBe(0);
    if (hasRoom(mix)) expect(results.swings(mix, 'default', 'narrow')).toBeLessThanOrEqual(1);
    expect(results.swings(mix, 'default', 'wide')).toBeLessThanOrEqual(1);
    expect(results.swings(mix, 'default', 'express')).toBeLessThanOrEqual(1);
  });

  it.each(few)('are served about as well as by hand: $name', (mix) => {
    for (const row of resultsOf(mix).rowsOf(mix)) {
      const name = `${mix.name}, ${row.stream}`;
      if (COSTLY[name] === undefined) {
        expect(row.toBest('meanMs'), `${name}, ${row.phase}`).toBeLessThanOrEqual(1.5);
        expect(row.toBest('p99Ms'), `${name}, ${row.phase}`).toBeLessThanOrEqual(1.5);
      }
    }
  });
});

describe('a lone request in the simulation', () => {
  it('runs wide', () => {
    expect(rowOf(named('heavy, callers: 1')).toBest('meanMs')).toBeLessThan(1.02);
    expect(rowOf(named('heavy, 5 a second')).toBest('meanMs')).toBeLessThan(1.1);
  });

  it('runs narrow after a trial when threads do not speed it up', () => {
    const mix = named('a model that no thread speeds up, 1 caller');
    expect(rowOf(mix).toBest('meanMs')).toBeLessThan(1.02);
    expect(resultsOf(mix).swings(mix, 'default', 'wide')).toBeLessThan(0.2);
  });

  it('becomes one of many, and lone again, within ten runs', () => {
    for (const row of resultsOf(CHANGING).rowsOf(CHANGING)) expect(row.toBest('meanMs'), row.phase).toBeLessThan(1.05);
  });
});

describe('short runs beside long ones in the simulation', () => {
  it('hardly wait, and cost the long ones little', () => {
    const [short, long] = resultsOf(SHORT_BESIDE_LONG).rowsOf(SHORT_BESIDE_LONG);
    expect(short?.of('default', 'p99Ms')).toBeLessThan(3);
    expect((long?.of('default', 'perSecond') ?? 0) / (long?.of('narrow', 'perSecond') ?? 0)).toBeGreaterThan(0.93);
  });

  it('wait like the others while they are slow', () => {
    const rows = resultsOf(TURNING)
      .rowsOf(TURNING)
      .filter(({ stream }) => stream === 'short');
    const [before, slow, after] = rows.map((row) => row.of('default', 'p99Ms'));
    expect(before).toBeLessThan(3);
    expect(slow).toBeGreaterThan(125);
    expect(after).toBeLessThan(3);
  });
});

describe('every core in the simulation', () => {
  it('is at work two loads after many callers came to an engine with nothing loaded', () => {
    const [soon, later] = resultsOf(COLD)
      .rowsOf(COLD)
      .map((row) => row.of('default', 'perSecond') ?? 0);
    expect((soon ?? 0) / (later ?? 1)).toBeGreaterThan(0.9);
  });

  it('does not load a new small model for a burst that few batches answer', () => {
    const bursts = resultsOf(BURSTS).came(BURSTS, 'one wide replica', 'narrow');
    expect(bursts).toBeGreaterThan(100);
    expect(resultsOf(BURSTS).came(BURSTS, 'default', 'narrow') / bursts).toBeLessThanOrEqual(2);
  });
});
