import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { Piscina } from 'piscina';
import { FixedThreadPool } from 'poolifier';
import { createEngine, type EngineOptions, type InferenceEngine } from '../../dist/index.js';
import type { BenchModel } from './models.js';
import { openSession } from './peers/session.mjs';

/** Something that answers requests for one model. */
export interface Contender {
  run(data: Float32Array): Promise<unknown>;
  /** Whether it has a session for lone requests; undefined for those that make none by themselves. */
  hasWide?(): boolean;
  close(): Promise<unknown>;
}

export interface ContenderKind {
  readonly name: string;
  start(model: BenchModel): Promise<Contender>;
}

/** Worker threads of every pool. */
export const THREADS = 2;

/** Long enough for threads without work to end. */
const CLOSING_MS = 2_000;

const file = (name: string) => fileURLToPath(new URL(`peers/${name}`, import.meta.url));

export function infermux(name: string, options: EngineOptions = {}): ContenderKind {
  return {
    name,
    start: async (model) => {
      const engine = await createEngine({
        models: { [model.id]: model.path },
        replicas: THREADS,
        maxQueuedRequests: -1,
        // As the peers. A compilation in the background would take part in some rounds only.
        weights: 'private',
        ...options,
      });
      // Every thread of the other pools has it, too.
      await engine.models.load(model.id, { replicas: THREADS });
      const { id, input, dims } = model;
      return {
        run: (data) => engine.run(id, { [input]: { data, dims } }),
        hasWide: () => hasWide(engine),
        close: () => engine.close(),
      };
    },
  };
}

export function hasWide(engine: InferenceEngine): boolean {
  const { replicas } = engine.status();
  return replicas.some(({ models }) => models.some(({ wide, state }) => wide && state === 'loaded'));
}

export function piscina(name: string, { tasks = 1, threads = 1 }: { tasks?: number; threads?: number }): ContenderKind {
  return {
    name,
    start: async (model) => {
      const pool = new Piscina({
        filename: file('piscina-worker.mjs'),
        minThreads: THREADS,
        maxThreads: THREADS,
        concurrentTasksPerWorker: tasks,
        workerData: { ...model, threads },
      });
      return { run: (data) => pool.run({ data }), close: () => pool.destroy() };
    },
  };
}

const poolifier: ContenderKind = {
  name: 'poolifier',
  start: async (model) => {
    const pool = new FixedThreadPool<{ data: Float32Array }, Float32Array>(THREADS, file('poolifier-worker.mjs'), {
      workerOptions: { workerData: model },
    });
    // Sometimes its promise never settles, although its threads are gone and nothing else keeps the process up.
    return { run: (data) => pool.execute({ data }), close: () => Promise.race([pool.destroy(), sleep(CLOSING_MS)]) };
  },
};

export function mainThread(name: string, threads = 1): ContenderKind {
  return {
    name,
    start: async (model) => {
      const run = await openSession({ ...model, threads });
      return { run: (data) => run(data), close: async () => undefined };
    },
  };
}

export const INFERMUX = infermux('infermux');
export const INFERMUX_UNBATCHED = infermux('infermux, not batched', { batching: false });
export const MAIN_THREAD = mainThread('onnxruntime-node on the main thread');
export const PISCINA_1 = piscina('Piscina, 1 task per worker', { tasks: 1 });
export const PISCINA_32 = piscina('Piscina, 32 tasks per worker', { tasks: 32 });
export const POOLIFIER = poolifier;

/** Measures rows per second of threads that only run the model, on the same input: the limit of every contender. */
export async function bareLoop(model: BenchModel, rows: number, milliseconds: number): Promise<number> {
  const workers = await Promise.all(
    Array.from({ length: THREADS }, async () => {
      const worker = new Worker(file('bare-loop-worker.mjs'), { workerData: { model, rows } });
      await once(worker, 'message');
      return worker;
    }),
  );
  const rates = await Promise.all(
    workers.map(async (worker) => {
      worker.postMessage(milliseconds);
      const [rate] = await once(worker, 'message');
      return rate as number;
    }),
  );
  // Each answer comes between two runs, when ending the thread is harmless.
  await Promise.all(workers.map((worker) => worker.terminate()));
  return rates.reduce((sum, rate) => sum + rate, 0);
}
