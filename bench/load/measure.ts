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
} from './contenders.js';
import { type Duration, manyCallers, oneCall, openLoop } from './drivers.js';
import { callersLoad, openLoad } from './goals.js';
import { Measurements } from './measurements.js';
import type { BenchModel } from './models.js';

/** How much is measured. */
export interface Extent {
  readonly rounds: number;
  /** Only what the goals need, for shorter times. */
  readonly quick: boolean;
}

export const ALL_CALLERS = [1, 16, 64, 256];
export const CONTENDERS = [INFERMUX, INFERMUX_UNBATCHED, MAIN_THREAD, PISCINA_1, PISCINA_32, POOLIFIER];
const OPEN_LOOP_MODELS = ['mlp-8', 'mlp-64'];
const OPEN_LOOP_CONTENDERS = [INFERMUX, PISCINA_1];
const OPEN_LOOP_SHARE = 0.7;
/** V8 compiles code after a number of calls, not after a time, so a slow model gets more time. */
const COMPILE_MS = 1_000;
const COMPILE_ANSWERS = 1_000;

function lengthsOf(quick: boolean) {
  const each: Duration = quick ? { warmUpMs: 150, milliseconds: 400 } : { warmUpMs: 200, milliseconds: 700 };
  return {
    each,
    /** Longer: a 99th percentile says little when one hiccup of the system decides it. */
    openLoop: { ...each, milliseconds: quick ? 700 : 2_000 },
    mostCompileMs: quick ? 2_500 : 5_000,
    /** Close to the machine's capacity, a few milliseconds without a core decide one measurement, so it is repeated. */
    ownCapacityTimes: quick ? 1 : 3,
  };
}

export function describeMethod({ rounds, quick }: Extent): string {
  const { each, openLoop: open, mostCompileMs } = lengthsOf(quick);
  return `Medians of ${rounds} rounds, in which the contenders take turns. Every pool has ${THREADS} threads, and every session one onnxruntime thread. A measurement takes ${each.milliseconds} ms (open loop: ${open.milliseconds} ms). Before each measurement there is a warm-up of ${each.warmUpMs} ms, before the first one of ${COMPILE_MS} to ${mostCompileMs} ms`;
}

/** Measures every contender with small models, and one that takes 10 ms, model by model and round by round. */
export async function measureModels(models: readonly BenchModel[], extent: Extent): Promise<Measurements> {
  const measured = new Measurements();
  for (const model of models) await measureModel(model, extent, measured);
  return measured;
}

/** Returns the numbers of callers that the goals need for a contender. */
function callersFor({ id }: BenchModel, kind: ContenderKind, { quick }: Extent): number[] {
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
async function measureModel(model: BenchModel, extent: Extent, measured: Measurements): Promise<void> {
  const { rounds, quick } = extent;
  const { each, mostCompileMs } = lengthsOf(quick);
  const kinds = CONTENDERS.filter((kind) => callersFor(model, kind, extent).length > 0);
  const contenders = new Map<ContenderKind, Contender>();
  for (const kind of kinds) {
    const contender = await kind.start(model);
    contenders.set(kind, contender);
    // Until its code is compiled, a contender is slower than at any later time, and so is the driver.
    const once = { warmUpMs: 0, milliseconds: COMPILE_MS };
    const { throughput } = await manyCallers(contender, model, 64, once);
    const moreMs = Math.min(mostCompileMs, (1_000 * COMPILE_ANSWERS) / throughput) - COMPILE_MS;
    if (moreMs > 0) await manyCallers(contender, model, 64, { warmUpMs: 0, milliseconds: moreMs });
    const isInOpenLoop = OPEN_LOOP_MODELS.includes(model.id) && OPEN_LOOP_CONTENDERS.includes(kind);
    if (isInOpenLoop) await openLoop(contender, model, throughput / 2, once);
  }
  for (let round = 0; round < rounds; round += 1) {
    process.stderr.write(`${model.title}: round ${round + 1} of ${rounds}\n`);
    for (let turn = 0; turn < kinds.length; turn += 1) {
      // Another contender begins each time, so that none always runs on a machine that another one has heated.
      const kind = kinds[(turn + round) % kinds.length] as ContenderKind;
      const contender = contenders.get(kind) as Contender;
      for (const callers of callersFor(model, kind, extent)) {
        const load = await (callers === 1
          ? oneCall(contender, model, each)
          : manyCallers(contender, model, callers, each));
        measured.add(model.id, kind.name, callersLoad(callers), load);
      }
    }
    for (const rows of model.batchable ? [1, 64] : [1]) {
      measured.addLimit(model.id, rows, await bareLoop(model, rows, each.milliseconds));
    }
    if (OPEN_LOOP_MODELS.includes(model.id)) await measureOpenLoops(model, contenders, round, quick, measured);
  }
  for (const contender of contenders.values()) await contender.close();
}

async function measureOpenLoops(
  model: BenchModel,
  contenders: ReadonlyMap<ContenderKind, Contender>,
  round: number,
  quick: boolean,
  measured: Measurements,
): Promise<void> {
  const { openLoop: openLoopLength, ownCapacityTimes } = lengthsOf(quick);
  const capacity = (kind: ContenderKind, callers: number) =>
    measured.rounds(model.id, kind.name, callersLoad(callers))[round]?.throughput ?? Number.NaN;
  const piscina = { load: openLoad(PISCINA_1.name), perSecond: OPEN_LOOP_SHARE * capacity(PISCINA_1, 64) };
  const own = { load: openLoad(INFERMUX.name), perSecond: OPEN_LOOP_SHARE * capacity(INFERMUX, 256) };
  const ownTimes = Array.from({ length: ownCapacityTimes }, () => [INFERMUX, own] as const);
  for (const [kind, { load, perSecond }] of [[INFERMUX, piscina], [PISCINA_1, piscina], ...ownTimes] as const) {
    const contender = contenders.get(kind) as Contender;
    measured.add(model.id, kind.name, load, await openLoop(contender, model, perSecond, openLoopLength));
  }
}
