import { createHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Outputs } from '../../index.js';
import { createEngine, type InferenceEngine, type InferenceResult } from '../../index.js';
import { type Percentiles, percentiles, round } from './demo-figures.js';
import { type Digit, MODELS, PIXELS, readDigits } from './digits.js';

const REPLICAS = 2;
const NO_LIMIT = -1;
/** Models that a replica holds in the second part. */
const FEW_PLACES = 3;
/** In the second part a request takes ten times as long. */
const SHARE_WITH_FEW_PLACES = 1 / 4;
/** Callers, each of which sends its next request when it has its answer: this many requests are under way at a time. */
const CALLERS = 64;
/** Interval at which the event loop's delay is sampled. The histogram holds whole intervals between samples. */
const LOOP_TICK_MS = 1;
/** The traffic is mixed in the same way every time. */
const SEED = 20_481;

/** How quickly requests were answered. */
export interface Speed {
  readonly requests: number;
  readonly seconds: number;
  readonly requestsPerSecond: number;
  /** From the call to the answer. */
  readonly latencyMs: Percentiles;
  /** Delay of the calling thread's event loop meanwhile. */
  readonly eventLoopDelayMs: Percentiles;
}

/** Speed where each replica has room for all models, and what follows from less room. */
export interface DemoReport extends Speed {
  readonly digits: number;
  readonly callers: number;
  readonly models: readonly ModelReport[];
  /** A part of the same requests, where a replica has room for few models. */
  readonly withFewPlaces: Speed & {
    readonly modelsPerReplica: number;
    readonly replicas: readonly ReplicaReport[];
  };
}

export interface ModelReport {
  readonly id: string;
  readonly requests: number;
  /** Share of right answers among the digits that the model was not trained on, and among all digits. */
  readonly accuracyUnseen: number;
  readonly accuracyAll: number;
}

export interface ReplicaReport {
  readonly id: string;
  readonly requests: number;
  /** Requests that found their session loaded, and requests that waited for a load. */
  readonly cacheHits: number;
  readonly cacheMisses: number;
  readonly loads: number;
  readonly evictions: number;
}

interface Task {
  readonly model: string;
  readonly digit: Digit;
}

interface CacheUse {
  hits: number;
  misses: number;
}

interface Score {
  unseen: number;
  unseenRight: number;
  all: number;
  allRight: number;
}

/**
 * Sends every digit to each of the package's models, as mixed traffic, and reports accuracy and speed. Then it sends a
 * part of them again to replicas that have room for few models, and reports how these use their caches.
 *
 * @param onProgress called with the number of answered requests, and of all requests.
 */
export async function runDemo(onProgress: (done: number, total: number) => void): Promise<DemoReport> {
  const digits = readDigits();
  const scores = new Map<string, Score>();
  const caches = new Map<string, CacheUse>();
  let tasks: readonly Task[] = [];
  const speed = await withEngine(NO_LIMIT, (engine) => {
    tasks = mixedTraffic(
      digits,
      engine.status().models.map(({ id }) => id),
    );
    const total = tasks.length * (1 + SHARE_WITH_FEW_PLACES);
    return measure(engine, tasks, (task, { outputs }, done) => {
      score(scores, task, outputs);
      onProgress(done, total);
    });
  });
  const few = tasks.slice(0, tasks.length * SHARE_WITH_FEW_PLACES);
  const withFewPlaces = await withEngine(FEW_PLACES, async (engine) => {
    const measured = await measure(engine, few, (_, { replica, timings }, done) => {
      countUse(caches, replica, timings.loadMs === 0);
      onProgress(tasks.length + done, tasks.length + few.length);
    });
    return { ...measured, modelsPerReplica: FEW_PLACES, replicas: await replicaReports(engine, caches) };
  });
  return {
    digits: digits.length,
    ...speed,
    callers: CALLERS,
    models: [...scores].sort(byId).map(([id, { unseen, unseenRight, all, allRight }]) => ({
      id,
      requests: all,
      accuracyUnseen: round(unseenRight / unseen, 4),
      accuracyAll: round(allRight / all, 4),
    })),
    withFewPlaces,
  };
}

async function withEngine<T>(maxModelsPerReplica: number, use: (engine: InferenceEngine) => Promise<T>): Promise<T> {
  const engine = await createEngine({ models: MODELS, replicas: REPLICAS, maxModelsPerReplica });
  try {
    return await use(engine);
  } finally {
    await engine.close();
  }
}

/** Runs all tasks, and tells how quickly. */
async function measure(
  engine: InferenceEngine,
  tasks: readonly Task[],
  onAnswer: (task: Task, result: InferenceResult, done: number) => void,
): Promise<Speed> {
  const latency = createHistogram();
  const loopDelay = monitorEventLoopDelay({ resolution: LOOP_TICK_MS });
  const startedAt = performance.now();
  loopDelay.enable();
  await runAll(engine, tasks, (task, result, done) => {
    latency.record(Math.max(1, Math.round(result.timings.totalMs * 1_000)));
    onAnswer(task, result, done);
  });
  loopDelay.disable();
  const seconds = (performance.now() - startedAt) / 1_000;
  return {
    requests: tasks.length,
    seconds: round(seconds, 2),
    requestsPerSecond: Math.round(tasks.length / seconds),
    latencyMs: percentiles(latency, 1_000),
    eventLoopDelayMs: percentiles(loopDelay, 1_000_000, LOOP_TICK_MS),
  };
}

async function runAll(
  engine: InferenceEngine,
  tasks: readonly Task[],
  onAnswer: (task: Task, result: InferenceResult, done: number) => void,
): Promise<void> {
  const queue = tasks.values();
  let done = 0;
  const caller = async () => {
    // All callers share one iterator: each takes the next free task.
    for (const task of queue) {
      const feeds = { image: { dims: [1, PIXELS], data: task.digit.pixels } };
      const result = await engine.infer({ target: task.model, feeds });
      done += 1;
      onAnswer(task, result, done);
    }
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
}

/** Returns a task for every digit and model, shuffled. */
function mixedTraffic(digits: readonly Digit[], models: readonly string[]): Task[] {
  const tasks = digits.flatMap((digit) => models.map((model) => ({ model, digit })));
  let state = SEED;
  for (let last = tasks.length - 1; last > 0; last -= 1) {
    // Park and Miller's minimal standard generator: enough to mix.
    state = (state * 48_271) % 2_147_483_647;
    const other = state % (last + 1);
    [tasks[last], tasks[other]] = [tasks[other] as Task, tasks[last] as Task];
  }
  return tasks;
}

function score(scores: Map<string, Score>, { model, digit }: Task, outputs: Outputs): void {
  const entry = scores.get(model) ?? { unseen: 0, unseenRight: 0, all: 0, allRight: 0 };
  const right = isRight(model, digit.label, outputs) ? 1 : 0;
  entry.all += 1;
  entry.allRight += right;
  if (digit.unseen) {
    entry.unseen += 1;
    entry.unseenRight += right;
  }
  scores.set(model, entry);
}

/** Whether the answer is right. The two classifiers name the digit; the specialist `digit-7` says whether it is a 7. */
function isRight(model: string, label: number, outputs: Outputs): boolean {
  const { probabilities, probability } = outputs;
  if (probabilities !== undefined) {
    const values = probabilities.data as Float32Array;
    return values.indexOf(Math.max(...values)) === label;
  }
  const isThatDigit = Number((probability?.data as Float32Array | undefined)?.[0]) >= 0.5;
  return isThatDigit === (model === `digit-${label}`);
}

function countUse(caches: Map<string, CacheUse>, replica: string, isHit: boolean): void {
  const use = caches.get(replica) ?? { hits: 0, misses: 0 };
  if (isHit) use.hits += 1;
  else use.misses += 1;
  caches.set(replica, use);
}

async function replicaReports(
  engine: InferenceEngine,
  caches: ReadonlyMap<string, CacheUse>,
): Promise<ReplicaReport[]> {
  const loads = await countsByReplica(engine, 'infermux_model_loads_total');
  const evictions = await countsByReplica(engine, 'infermux_model_unloads_total', { reason: 'evicted' });
  return engine.status().replicas.map(({ id }) => {
    const { hits, misses } = caches.get(id) ?? { hits: 0, misses: 0 };
    return {
      id,
      requests: hits + misses,
      cacheHits: hits,
      cacheMisses: misses,
      loads: loads.get(id) ?? 0,
      evictions: evictions.get(id) ?? 0,
    };
  });
}

function byId([left]: readonly [string, unknown], [right]: readonly [string, unknown]): number {
  return left.localeCompare(right);
}

/** Sums the samples of a counter that have the given labels, by their label `replica`. */
async function countsByReplica(
  engine: InferenceEngine,
  name: string,
  labels: Readonly<Record<string, string>> = {},
): Promise<Map<string, number>> {
  const sums = new Map<string, number>();
  const metric = await engine.metrics.getSingleMetric(name)?.get();
  for (const sample of metric?.values ?? []) {
    if (!Object.entries(labels).every(([label, value]) => sample.labels[label] === value)) continue;
    const replica = String(sample.labels['replica']);
    sums.set(replica, (sums.get(replica) ?? 0) + sample.value);
  }
  return sums;
}
