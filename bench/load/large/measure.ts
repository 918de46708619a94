import { closedLoop } from '../../../dist/cli/bench/load.js';
import { type Duration, randomInputs } from '../drivers.js';
import { callersLoad } from '../goals.js';
import type { Extent } from '../measure.js';
import { Measurements } from '../measurements.js';
import type { BenchModel } from '../models.js';
import { startWays, WAYS } from './ways.js';

export interface LargeMeasurements {
  readonly models: readonly BenchModel[];
  readonly ways: Measurements;
}

export const LARGE_CALLERS = 16;

const lengthsOf = (quick: boolean): Duration =>
  quick ? { warmUpMs: 200, milliseconds: 500 } : { warmUpMs: 300, milliseconds: 1_000 };

/** Before the first measurement of a way. */
const SETTLE: Duration = { warmUpMs: 0, milliseconds: 2_500 };

/** Measures all ways of large pictures to their models, side by side. The model and its peers are up at once. */
export async function measureLarge(
  models: readonly BenchModel[],
  folder: string,
  { rounds, quick }: Extent,
): Promise<LargeMeasurements> {
  const measured = new Measurements();
  for (const model of models) {
    const ways = await startWays(model, folder);
    const pictures = randomInputs(model, LARGE_CALLERS);
    for (let round = 0; round < rounds; round += 1) {
      process.stderr.write(`${model.title}: round ${round + 1} of ${rounds}\n`);
      for (let turn = 0; turn < WAYS.length; turn += 1) {
        const way = WAYS[(turn + round) % WAYS.length] as (typeof WAYS)[number];
        const send = (caller: number) => ways.send(way, pictures[caller] as Float32Array);
        if (round === 0) await closedLoop(send, { callers: LARGE_CALLERS, ...SETTLE });
        const load = await closedLoop(send, { callers: LARGE_CALLERS, ...lengthsOf(quick) });
        measured.add(model.id, way, callersLoad(LARGE_CALLERS), load);
      }
    }
    await ways.close();
  }
  return { models, ways: measured };
}

export function describeLarge({ quick }: Extent): string {
  return `Large images: ${LARGE_CALLERS} callers, and ${lengthsOf(quick).milliseconds} ms for a measurement`;
}
