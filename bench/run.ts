/**
 * `npm run bench`: measures infermux against every peer, in one run on this machine. Contenders take turns, model by
 * model and round by round. Prints medians of the rounds. `--quick` measures only what the goals need, in some three
 * minutes; `--rounds N` runs N rounds instead of five; `--only small`, `heavy` or `large` measures only small models, heavy
 * models or pictures. Files are written only when everything is measured, and for pictures one for each version of Node.
 */
import { parseArgs } from 'node:util';
import { goals } from './load/goals.js';
import { heavyGoals } from './load/heavy/goals.js';
import { describeHeavy, type HeavyMeasurements, measureHeavy } from './load/heavy/measure.js';
import { heavyModels } from './load/heavy/models.js';
import { largeGoals } from './load/large/goals.js';
import { describeLarge, type LargeMeasurements, measureLarge } from './load/large/measure.js';
import { writePictureModels } from './load/large/pictures.js';
import { describeMethod, measureModels } from './load/measure.js';
import type { Measurements } from './load/measurements.js';
import { temporaryFolder, writeModels } from './load/models.js';
import { describeHeavyResults, describeLargeResults, writeLargeResults, writeResults } from './load/results.js';
import { goalTable, judge } from './report.js';

const {
  quick,
  only,
  rounds: roundsText = quick ? '3' : '5',
} = parseArgs({
  options: { quick: { type: 'boolean', default: false }, rounds: { type: 'string' }, only: { type: 'string' } },
}).values;
const rounds = Number(roundsText);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds must be a positive integer, got ${roundsText}`);
if (only !== undefined && only !== 'small' && only !== 'heavy' && only !== 'large') {
  throw new Error(`--only must be small, heavy or large, got ${only}`);
}

let isDone = false;
process.once('exit', () => {
  // A promise that never settles would end the process without a message, and the exit code is 0 here.
  if (!isDone) process.stderr.write('the bench ended before it was done\n');
});

const extent = { rounds, quick };
const folder = temporaryFolder();
const models = writeModels(folder);
const isWanted = (what: typeof only) => only === undefined || only === what;
const measured: Measurements | undefined = isWanted('small') ? await measureModels(models, extent) : undefined;
const heavy: HeavyMeasurements | undefined = isWanted('heavy')
  ? await measureHeavy(heavyModels(folder, models), extent)
  : undefined;
const large: LargeMeasurements | undefined = isWanted('large')
  ? await measureLarge(writePictureModels(folder), folder, extent)
  : undefined;

const all = [
  ...(measured === undefined ? [] : goals(measured, models)),
  ...(heavy === undefined ? [] : heavyGoals(heavy)),
  ...(large === undefined ? [] : largeGoals(large)),
];
const judged = all.map(judge);
if (only === 'heavy' && heavy !== undefined) process.stdout.write(`${describeHeavyResults(heavy)}\n\n`);
if (only === 'large' && large !== undefined) process.stdout.write(`${describeLargeResults(large)}\n\n`);
process.stdout.write(`${goalTable(judged)}\n`);
if (only === 'large' && !quick && large !== undefined) writeLargeResults(large, judged, describeLarge(extent));
if (!quick && measured !== undefined && heavy !== undefined && large !== undefined) {
  const method = `${describeMethod(extent)}. ${describeHeavy(extent)}. ${describeLarge(extent)}`;
  writeResults({ models, measured, heavy, large, method, judged });
}
isDone = true;
