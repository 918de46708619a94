/**
 * `npm run bench`: measures infermux against every peer, in one run on this machine. Contenders take turns, model by
 * model and round by round. Prints medians of the rounds. `--quick` measures only what the goals need, in under two
 * minutes, and writes no files; `--rounds N` runs N rounds instead of five.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { barChart } from '../dist/cli/terminal/bar-chart.js';
import {
  bareLoop,
  type Contender,
  type ContenderKind,
  INFERMUX,
  INFERMUX_UNBATCHED,
  MAIN_THREAD,
  PISCINA_1,
  PISCINA_32,
  POOLIFIER,
  THREADS,
} from './load/contenders.js';
import { type Duration, manyCallers, oneCall, openLoop } from './load/drivers.js';
import { callersLoad, goals, openLoad } from './load/goals.js';
import { Measurements, median } from './load/measurements.js';
import { type BenchModel, writeModels } from './load/models.js';
import { goalTable, judge, machine, markdown, place, writeIntoReadme } from './report.js';

const { quick, rounds } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, rounds: { type: 'string' } },
}).values;
const ROUNDS = Number(rounds ?? (quick ? 3 : 5));
if (!Number.isInteger(ROUNDS) || ROUNDS < 1) throw new Error(`--rounds must be a positive integer, got ${rounds}`);
const DURATION: Duration = quick ? { warmUpMs: 150, milliseconds: 400 } : { warmUpMs: 200, milliseconds: 700 };
/** Longer: a 99th percentile says little when one hiccup of the system decides it. */
const OPEN_LOOP_DURATION: Duration = { ...DURATION, milliseconds: quick ? 700 : 2_000 };
/** V8 compiles code after a number of calls, not after a time, so a slow model gets more time. */
const COMPILE_MS = 1_000;
const COMPILE_ANSWERS = 1_000;
const MOST_COMPILE_MS = quick ? 2_500 : 5_000;
const ALL_CALLERS = [1, 16, 64, 256];
const CONTENDERS = [INFERMUX, INFERMUX_UNBATCHED, MAIN_THREAD, PISCINA_1, PISCINA_32, POOLIFIER];
const OPEN_LOOP_MODELS = ['mlp-8', 'mlp-64'];
const OPEN_LOOP_CONTENDERS = [INFERMUX, PISCINA_1];
const OPEN_LOOP_SHARE = 0.7;
/** Close to the machine's capacity, a few milliseconds without a core decide one measurement, so it is repeated. */
const OWN_CAPACITY_TIMES = quick ? 1 : 3;

/** Returns the numbers of callers that the goals need for a contender. */
function callersFor({ id }: BenchModel, kind: ContenderKind): number[] {
  if (!quick) return ALL_CALLERS;
  const needed: number[] = [];
  if (id === 'mlp-8' && (kind === INFERMUX || kind === PISCINA_1)) needed.push(1);
  if (id === 'conv' && (kind === INFERMUX || kind === MAIN_THREAD)) needed.push(16);
  if (id === 'mlp-8' && kind === INFERMUX_UNBATCHED) needed.push(64);
  if (OPEN_LOOP_MODELS.includes(id) && kind === PISCINA_1) needed.push(64);
  if (kind === INFERMUX || (id.startsWith('mlp-') && (kind === MAIN_THREAD || kind === PISCINA_32))) needed.push(256);
  return needed;
}

/** Measures a model. All its contenders are up at once, and idle except in their turn, so that each stays warm. */
async function measureModel(model: BenchModel, measured: Measurements): Promise<void> {
  const kinds = CONTENDERS.filter((kind) => callersFor(model, kind).length > 0);
  const contenders = new Map<ContenderKind, Contender>();
  for (const kind of kinds) {
    const contender = await kind.start(model);
    contenders.set(kind, contender);
    // Until its code is compiled, a contender is slower than at any later time, and so is the driver.
    const once = { warmUpMs: 0, milliseconds: COMPILE_MS };
    const { throughput } = await manyCallers(contender, model, 64, once);
    const moreMs = Math.min(MOST_COMPILE_MS, (1_000 * COMPILE_ANSWERS) / throughput) - COMPILE_MS;
    if (moreMs > 0) await manyCallers(contender, model, 64, { warmUpMs: 0, milliseconds: moreMs });
    const isInOpenLoop = OPEN_LOOP_MODELS.includes(model.id) && OPEN_LOOP_CONTENDERS.includes(kind);
    if (isInOpenLoop) await openLoop(contender, model, throughput / 2, once);
  }
  for (let round = 0; round < ROUNDS; round += 1) {
    process.stderr.write(`${model.title}: round ${round + 1} of ${ROUNDS}\n`);
    for (let turn = 0; turn < kinds.length; turn += 1) {
      // Another contender begins each time, so that none always runs on a machine that another one has heated.
      const kind = kinds[(turn + round) % kinds.length] as ContenderKind;
      const contender = contenders.get(kind) as Contender;
      for (const callers of callersFor(model, kind)) {
        const load = await (callers === 1
          ? oneCall(contender, model, DURATION)
          : manyCallers(contender, model, callers, DURATION));
        measured.add(model.id, kind.name, callersLoad(callers), load);
      }
    }
    for (const rows of model.batchable ? [1, 64] : [1]) {
      measured.addLimit(model.id, rows, await bareLoop(model, rows, DURATION.milliseconds));
    }
    if (OPEN_LOOP_MODELS.includes(model.id)) await measureOpenLoops(model, contenders, round, measured);
  }
  for (const contender of contenders.values()) await contender.close();
}

async function measureOpenLoops(
  model: BenchModel,
  contenders: ReadonlyMap<ContenderKind, Contender>,
  round: number,
  measured: Measurements,
): Promise<void> {
  const capacity = (kind: ContenderKind, callers: number) =>
    measured.rounds(model.id, kind.name, callersLoad(callers))[round]?.throughput ?? Number.NaN;
  const piscina = { load: openLoad(PISCINA_1.name), perSecond: OPEN_LOOP_SHARE * capacity(PISCINA_1, 64) };
  const own = { load: openLoad(INFERMUX.name), perSecond: OPEN_LOOP_SHARE * capacity(INFERMUX, 256) };
  const ownTimes = Array.from({ length: OWN_CAPACITY_TIMES }, () => [INFERMUX, own] as const);
  for (const [kind, { load, perSecond }] of [[INFERMUX, piscina], [PISCINA_1, piscina], ...ownTimes] as const) {
    const contender = contenders.get(kind) as Contender;
    measured.add(model.id, kind.name, load, await openLoop(contender, model, perSecond, OPEN_LOOP_DURATION));
  }
}

let isDone = false;
process.once('exit', () => {
  // A promise that never settles would end the process without a message, and the exit code is 0 here.
  if (!isDone) process.stderr.write('the bench ended before it was done\n');
});

const method = `${ROUNDS} rounds, contenders in turn; ${DURATION.milliseconds} ms for each measurement (open loop: ${OPEN_LOOP_DURATION.milliseconds} ms) after ${DURATION.warmUpMs} ms of warm-up, and ${COMPILE_MS} to ${MOST_COMPILE_MS} ms before the first; ${THREADS} threads in every pool, one onnxruntime thread in each session; medians`;

const models = writeModels();
const measured = new Measurements();
for (const model of models) await measureModel(model, measured);

const judged = goals(measured, models).map(judge);
const table = goalTable(judged);
process.stdout.write(`${table}\n`);
if (!quick) writeResults();
isDone = true;

function writeResults(): void {
  const folder = new URL('results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  const cells = measured.summary();
  const results = {
    date: new Date().toISOString().slice(0, 10),
    machine,
    method,
    goals: judged,
    measurements: cells,
    limits: measured.limits(),
  };
  writeFileSync(new URL('latest.json', folder), `${JSON.stringify(results, undefined, 2)}\n`);

  const perSecond = (value: number) => Math.round(value).toLocaleString('en');
  const loads = ALL_CALLERS.map(callersLoad);
  const throughputLines = models.flatMap(({ id, title }) => [
    ...CONTENDERS.map(({ name }) => [
      title,
      name,
      ...loads.map((load) => perSecond(median(measured.rounds(id, name, load).map(({ throughput }) => throughput)))),
      `${median(measured.rounds(id, name, '1 caller').map(({ p50 }) => p50 * 1_000)).toFixed(0)}`,
      `${median(measured.rounds(id, name, '256 callers').map(({ loopDelayP99 }) => loopDelayP99)).toFixed(1)}`,
    ]),
    [
      title,
      'two threads in a bare loop, batch 1 / 64',
      ...['', '', ''],
      [1, 64]
        .map((rows) => (measured.limit(id, rows).length === 0 ? 'none' : perSecond(median(measured.limit(id, rows)))))
        .join(' / '),
      ...['', ''],
    ],
  ]);
  const throughputTable = markdown(
    ['model', '', ...loads, 'one caller, p50 µs', 'loop delay p99 at 256 callers, ms'],
    throughputLines,
  );
  writeFileSync(
    new URL('latest.md', folder),
    `# Results\n\n${place}. ${method}.\n\n## Goals\n\n${table}\n\n## Requests per second\n\n${throughputTable}\n`,
  );

  const bars = (load: string, read: (load: { throughput: number; p50: number }) => number) =>
    models.flatMap(({ id, title }) =>
      CONTENDERS.map(({ name }) => ({
        group: title,
        label: name,
        value: median(measured.rounds(id, name, load).map(read)),
      })),
    );
  const charts = {
    'throughput.svg': barChart(
      '256 callers',
      'requests per second, each model on a scale of its own',
      bars('256 callers', ({ throughput }) => throughput),
      'own',
    ),
    'latency.svg': barChart(
      'One caller, p50',
      'microseconds, each model on a scale of its own',
      bars('1 caller', ({ p50 }) => p50 * 1_000),
      'own',
    ),
  };
  for (const [name, chart] of Object.entries(charts)) writeFileSync(new URL(name, folder), chart);

  writeIntoReadme('bench', `${place}. ${method}.\n\n${table}`);
}
