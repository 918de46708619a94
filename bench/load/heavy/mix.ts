import { setTimeout as sleep } from 'node:timers/promises';
import { createEngine, type EngineOptions, type InferenceEngine } from '../../../dist/index.js';
import { THREADS } from '../contenders.js';
import type { BenchModel } from '../models.js';
import { call } from './callers.js';
import { rateOf, runsOf } from './runs.js';

/** One round of short requests beside long ones. */
export interface Mix {
  /** Latencies of the short requests, in milliseconds. */
  readonly shortP50: number;
  readonly shortP99: number;
  /** Throughput of the long requests beside the short ones, to that without them. */
  readonly longShare: number;
}

const LONG_CALLERS = 8;
/** The deployment of the short model that is set up by hand. */
const OWN = 'own';
/** Milliseconds between an answer to the short caller and its next request. */
const PAUSE = { least: 5, most: 10 };

const pause = () => sleep(PAUSE.least + Math.random() * (PAUSE.most - PAUSE.least));

/** Short requests beside long ones in one deployment, and the same set up by hand. */
export interface Mixes {
  readonly express: readonly Mix[];
  /** The short model has a deployment of its own, with one replica. */
  readonly byHand: readonly Mix[];
}

/**
 * Lets callers ask for a long model without a pause, and one for a short model now and then, in turns with and without.
 *
 * @param lengths milliseconds: of the first phase with short requests, which is not measured, and of each measured one.
 */
export async function measureMixes(
  models: { readonly long: BenchModel; readonly short: BenchModel },
  rounds: number,
  lengths: { readonly warmUp: number; readonly measured: number },
): Promise<Mixes> {
  const byHand = { express: false, deployments: { [OWN]: { replicas: 1, express: false } } } as const;
  return {
    express: await measureMix(models, models.short.id, rounds, lengths, {}),
    byHand: await measureMix(models, `${OWN}/${models.short.id}`, rounds, lengths, byHand),
  };
}

async function measureMix(
  { long, short }: { readonly long: BenchModel; readonly short: BenchModel },
  target: string,
  rounds: number,
  lengths: { readonly warmUp: number; readonly measured: number },
  options: EngineOptions,
): Promise<Mix[]> {
  const models = { [long.id]: long.path, [short.id]: short.path };
  const engine = await createEngine({ models, replicas: THREADS, weights: 'private', ...options });
  try {
    for (const id of Object.keys(models)) await engine.models.load(id, { replicas: THREADS });
    const longs = call(engine, long, LONG_CALLERS);
    const shorts = { ...short, id: target };
    const mixes: Mix[] = [];
    await askShort(engine, shorts, lengths.warmUp);
    for (let round = 0; round < rounds; round += 1) {
      const without = async () => {
        const from = performance.now();
        await sleep(lengths.measured);
        return rateOf(runsOf(longs.answers), from, performance.now());
      };
      const beside = async () => {
        // What comes for short requests gets time to come again.
        await askShort(engine, shorts, lengths.measured / 3);
        const from = performance.now();
        const latencies = await askShort(engine, shorts, lengths.measured);
        return { latencies, rate: rateOf(runsOf(longs.answers), from, performance.now()) };
      };
      // Another one begins each time.
      const alone = round % 2 === 0 ? await without() : undefined;
      const { latencies, rate } = await beside();
      const at = (share: number) => latencies[Math.floor(share * latencies.length)] ?? Number.NaN;
      mixes.push({ shortP50: at(0.5), shortP99: at(0.99), longShare: rate / (alone ?? (await without())) });
    }
    await longs.stop();
    return mixes;
  } finally {
    await engine.close();
  }
}

/** Returns the latencies of the answers, sorted. */
async function askShort(engine: InferenceEngine, short: BenchModel, milliseconds: number): Promise<number[]> {
  const calling = call(engine, short, 1, pause);
  await sleep(milliseconds);
  await calling.stop();
  return calling.answers.map(({ latencyMs }) => latencyMs).sort((left, right) => left - right);
}
