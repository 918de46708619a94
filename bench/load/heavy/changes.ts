import { setTimeout as sleep } from 'node:timers/promises';
import { createEngine } from '../../../dist/index.js';
import { hasWide, THREADS } from '../contenders.js';
import { median } from '../measurements.js';
import type { BenchModel } from '../models.js';
import { type Calling, call } from './callers.js';
import { rateOf, runsOf, runsUntilFast, runsUntilFull } from './runs.js';

/** How an engine takes changes of the load, measured in an engine of its own. */
export interface Changes {
  /** Throughput from two loads after the first request on, while the engine began cold, to the steady state's. */
  readonly coldShare: number;
  /** Runs from a change between 1 and 16 callers until the figure of the steady state is there, the slower change. */
  readonly settlingRuns: number;
  /** Share of one core that the process takes while nothing is asked. */
  readonly idleShare: number;
}

/** Milliseconds of the phases. */
export interface PhaseLengths {
  /** At least; as long as a load if that is longer. */
  readonly cold: number;
  /** Most time for a session for lone requests to come. */
  readonly wide: number;
  readonly one: number;
  readonly many: number;
  readonly idle: number;
}

const MANY = 16;
/** The loads after which every replica is expected to work. */
const COLD_LOADS = 2;
/** What just ended may still be cleared up. */
const CALM_MS = 1_000;

export async function measureChanges(model: BenchModel, lengths: PhaseLengths): Promise<Changes> {
  const engine = await createEngine({ models: { [model.id]: model.path }, replicas: THREADS, weights: 'private' });
  try {
    const phase = async (callers: number, milliseconds: number): Promise<Calling> => {
      const calling = call(engine, model, callers);
      await sleep(milliseconds);
      await calling.stop();
      return calling;
    };
    const begin = call(engine, model, MANY);
    const { timings } = await begin.first;
    const coldFrom = begin.startedAt + COLD_LOADS * timings.loadMs;
    const coldUntil = coldFrom + Math.max(lengths.cold, timings.loadMs);
    await sleep(coldUntil + lengths.cold - performance.now());
    await begin.stop();

    const latest = performance.now() + lengths.wide;
    while (!hasWide(engine) && performance.now() < latest) await phase(1, CALM_MS);
    const one = await phase(1, lengths.one);
    const many = await phase(MANY, lengths.many);
    const oneAgain = await phase(1, lengths.one / 2);
    const idleShare = await measureIdle(lengths.idle);

    // The better of two phases: one that never gets there is not measured against itself.
    const begun = runsOf(begin.answers);
    const manyRuns = runsOf(many.answers);
    const manySteady = Math.max(
      rateOf(begun, coldUntil, coldUntil + lengths.cold),
      rateOf(manyRuns, many.startedAt + lengths.many / 2, many.startedAt + lengths.many),
    );
    const oneSteady = Math.min(median(laterLatencies(one)), median(laterLatencies(oneAgain)));
    const latenciesAgain = oneAgain.answers.map(({ latencyMs }) => latencyMs);
    return {
      coldShare: rateOf(begun, coldFrom, coldUntil) / manySteady,
      settlingRuns: Math.max(
        runsUntilFull(manyRuns, many.startedAt, manySteady),
        runsUntilFast(latenciesAgain, oneSteady),
      ),
      idleShare,
    };
  } finally {
    await engine.close();
  }
}

/** Returns the latencies of the second half of a phase. */
function laterLatencies({ answers }: Calling): number[] {
  return answers.slice(answers.length >> 1).map(({ latencyMs }) => latencyMs);
}

async function measureIdle(milliseconds: number): Promise<number> {
  await sleep(CALM_MS);
  const before = process.cpuUsage();
  const startedAt = performance.now();
  await sleep(milliseconds);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000 / (performance.now() - startedAt);
}
