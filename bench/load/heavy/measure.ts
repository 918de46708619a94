import type { Extent } from '../measure.js';
import { Measurements } from '../measurements.js';
import { type Changes, measureChanges, type PhaseLengths } from './changes.js';
import { type Mixes, measureMixes } from './mix.js';
import type { HeavyModels } from './models.js';
import { measurePeers, type PeerLengths } from './peers.js';

/** Everything that was measured with heavy models, round by round. */
export interface HeavyMeasurements {
  readonly models: HeavyModels;
  readonly peers: Measurements;
  readonly changes: readonly Changes[];
  readonly mixes: Mixes;
}

interface Lengths {
  readonly peers: PeerLengths;
  readonly changes: PhaseLengths;
  readonly mix: { readonly warmUp: number; readonly measured: number };
}

/** Time for lone requests to lose as much as the load of a large model takes. */
const WIDE_MS = 20_000;

const FULL: Lengths = {
  peers: {
    few: { warmUpMs: 100, milliseconds: 300 },
    many: { warmUpMs: 200, milliseconds: 700 },
    ...{ settleMs: 1_000, wideMs: WIDE_MS },
  },
  changes: { cold: 1_200, wide: WIDE_MS, one: 2_000, many: 1_200, idle: 2_000 },
  mix: { warmUp: 3_000, measured: 2_000 },
};

const QUICK: Lengths = {
  peers: {
    few: { warmUpMs: 70, milliseconds: 200 },
    many: { warmUpMs: 100, milliseconds: 400 },
    ...{ settleMs: 700, wideMs: WIDE_MS },
  },
  changes: { cold: 800, wide: WIDE_MS, one: 1_500, many: 800, idle: 1_000 },
  mix: { warmUp: 2_000, measured: 1_200 },
};

/** Measures heavy models against peers, and an engine that serves them when the load changes or is mixed. */
export async function measureHeavy(models: HeavyModels, { rounds, quick }: Extent): Promise<HeavyMeasurements> {
  const lengths = quick ? QUICK : FULL;
  const peers = new Measurements();
  for (const model of models.heavy) await measurePeers(model, rounds, lengths.peers, peers);
  const changes: Changes[] = [];
  const [first] = models.heavy;
  for (let round = 0; first !== undefined && round < rounds; round += 1) {
    process.stderr.write(`${first.title}, changes: round ${round + 1} of ${rounds}\n`);
    changes.push(await measureChanges(first, lengths.changes));
  }
  process.stderr.write(`${models.short.title} beside ${models.long.title}\n`);
  const mixes = await measureMixes(models, rounds, lengths.mix);
  return { models, peers, changes, mixes };
}

export function describeHeavy({ quick }: Extent): string {
  const { peers, changes, mix } = quick ? QUICK : FULL;
  return `Heavy models: a measurement takes ${peers.few.milliseconds} ms with one or two callers, ${peers.many.milliseconds} ms with 16, ${changes.idle} ms for the idle process, and ${mix.measured} ms for short requests beside long ones`;
}
