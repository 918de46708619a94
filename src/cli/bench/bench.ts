import { availableParallelism } from 'node:os';
import type { Feeds } from '../../index.js';
import { createEngine, type InferenceEngine } from '../../index.js';
import type { Signs } from '../children/jobs.js';
import { type NamedModel, nameModel } from '../models/named-model.js';
import { closedLoop, type Load } from './load.js';
import { bytesOfFeeds, type InputShapes, randomFeeds } from './random-feeds.js';

/** onnxruntime's threads in a session: `intraOpNumThreads`. */
export type Threads = number | 'auto';

/** What is measured at each number of callers. */
export interface BenchSetting {
  readonly replicas: number;
  readonly threads: Threads;
}

export interface BenchOptions {
  readonly path: string;
  readonly shapes: InputShapes;
  /** Concurrent callers to try, in this order. */
  readonly callers: readonly number[];
  readonly replicas: readonly number[];
  /** Threads of a session to try. Default: `'auto'`, 1, and the cores divided by the replicas. */
  readonly threads?: readonly Threads[] | undefined;
  /** Length of each measurement. */
  readonly seconds: number;
}

export interface BenchRow extends Load, BenchSetting {
  readonly callers: number;
  /** Mean number of requests that shared a call. */
  readonly batchSize: number;
}

/** A setting and a number of callers that were not measured. */
export interface SkippedRow extends BenchSetting {
  readonly callers: number;
  /** Requests per second of the row before. */
  readonly throughput: number;
}

export interface BenchReport {
  readonly path: string;
  readonly seconds: number;
  readonly rows: readonly BenchRow[];
  /** Measurements that would have taken more than {@link MOST_OVERRUN} times `seconds`, at the throughput of the row before. */
  readonly skipped: readonly SkippedRow[];
  /** Why requests never share a call; undefined if they may. */
  readonly whyNotBatched: string | undefined;
  /** The row with the highest throughput, for each number of callers that was measured. */
  readonly bestAt: readonly BenchRow[];
  /** The row with the highest throughput of all. */
  readonly best: BenchRow;
}

const WARM_UP_MS = 300;
/** Added for the first measurement: until the code of the calling thread is compiled, every setting is slower. */
const COMPILE_MS = 1_000;
/** In so many times the load of the model, another replica has loaded it, or the first one with more threads. */
const WARM_UP_LOADS = 2;
/** Longest warm-up, in lengths of a measurement. */
const MOST_WARM_UP = 5;
/** Milliseconds between two looks at whether requests are answered. */
const BEAT_MS = 250;
/** A measurement waits for every caller, so a slow model with many callers would take minutes. */
export const MOST_OVERRUN = 10;
/** Most bytes of the inputs of all callers together. Beyond that some callers send the same inputs. */
const MOST_FEEDS_BYTES = 64 * 2 ** 20;

/**
 * Measures a model with every number of replicas, threads and callers.
 *
 * @throws InfermuxError for a model that cannot be loaded or inputs that do not fit; the error of the first failed
 *   request.
 */
export async function benchModel(options: BenchOptions, { begins, progress }: Signs): Promise<BenchReport> {
  const { path, callers, replicas, seconds } = options;
  const model = await nameModel(path);
  const settings = replicas.flatMap((count) =>
    (options.threads ?? defaultThreads(count)).map((threads): BenchSetting => ({ replicas: count, threads })),
  );
  const total = callers.length * settings.length;
  const rows: BenchRow[] = [];
  const skipped: SkippedRow[] = [];
  let whyNotBatched: string | undefined;
  const signs: Signs = { begins, progress: (done) => progress(rows.length + skipped.length + done, total) };
  for (const setting of settings) {
    const compileMs = rows.length === 0 ? COMPILE_MS : 0;
    const measured = await benchSetting(model, setting, options, compileMs, signs);
    rows.push(...measured.rows);
    skipped.push(...measured.skipped);
    whyNotBatched = measured.whyNotBatched;
  }
  const bestAt = [...new Set(callers)].flatMap((count) => fastest(rows.filter((row) => row.callers === count)));
  return { path, seconds, rows, skipped, whyNotBatched, bestAt, best: fastest(rows)[0] as BenchRow };
}

/** Returns fixed numbers of threads too, but not so many that all replicas together take each core several times. */
function defaultThreads(replicas: number): Threads[] {
  return [...new Set<Threads>(['auto', 1, Math.max(1, Math.floor(availableParallelism() / replicas))])];
}

/** Returns the row with the highest throughput; none of no rows. */
function fastest(rows: readonly BenchRow[]): BenchRow[] {
  return [...rows].sort((left, right) => right.throughput - left.throughput).slice(0, 1);
}

/**
 * Measures one setting with every number of callers, in an engine of its own.
 *
 * @param compileMs is added to the first warm-up.
 */
async function benchSetting(
  { id, source }: NamedModel,
  { replicas, threads }: BenchSetting,
  { shapes, callers, seconds }: BenchOptions,
  compileMs: number,
  { begins, progress }: Signs,
): Promise<Pick<BenchReport, 'rows' | 'skipped' | 'whyNotBatched'>> {
  const rows: BenchRow[] = [];
  const skipped: SkippedRow[] = [];
  const engine = await createEngine({
    // A `model.json` may name threads, too.
    models: { [id]: { ...source, session: { ...source.session, intraOpNumThreads: threads } } },
    // A compilation in the background would take part in some measurements only.
    weights: 'private',
    ...{ replicas, maxQueuedRequests: -1 },
    // The limits of the command count.
    ...{ loadTimeoutMs: -1, healthCheck: { periodMs: 2 ** 31 - 1 } },
  });
  try {
    const bytes = engine.models.size(id);
    begins('load', bytes);
    const startedAt = performance.now();
    const { inputs, whyNotBatched } = await engine.models.inspect(id);
    const loadsMs = WARM_UP_LOADS * (performance.now() - startedAt);
    const warmUpMs = WARM_UP_MS + Math.min(loadsMs, MOST_WARM_UP * seconds * 1_000);
    let throughput = Number.POSITIVE_INFINITY;
    for (const concurrency of callers) {
      const place = { replicas, threads, callers: concurrency };
      if (concurrency > MOST_OVERRUN * seconds * throughput) {
        skipped.push({ ...place, throughput });
      } else {
        const goesOn = () => begins('run', bytes);
        const makeFeeds = () => randomFeeds(inputs, shapes, Math.random);
        const duration = { warmUpMs: warmUpMs + (rows.length === 0 ? compileMs : 0), milliseconds: seconds * 1_000 };
        const row = { ...place, ...(await measure(engine, id, concurrency, duration, makeFeeds, goesOn)) };
        rows.push(row);
        throughput = row.throughput;
      }
      progress(rows.length + skipped.length, callers.length);
    }
    return { rows, skipped, whyNotBatched };
  } finally {
    await engine.close();
  }
}

/** @param goesOn is called at the start, and again and again as long as requests are answered. */
async function measure(
  engine: InferenceEngine,
  target: string,
  callers: number,
  duration: { readonly warmUpMs: number; readonly milliseconds: number },
  makeFeeds: () => Feeds,
  goesOn: () => void,
): Promise<Load & Pick<BenchRow, 'batchSize'>> {
  const feeds = [makeFeeds()];
  const most = Math.max(1, Math.floor(MOST_FEEDS_BYTES / bytesOfFeeds(feeds[0] as Feeds)));
  while (feeds.length < Math.min(callers, most)) feeds.push(makeFeeds());
  let requests = 0;
  let calls = 0;
  goesOn();
  let seen = 0;
  const beat = setInterval(() => {
    if (requests > seen) goesOn();
    seen = requests;
  }, BEAT_MS);
  const load = await closedLoop(
    async (caller) => {
      const { batchSize } = await engine.infer({ target, feeds: feeds[caller % feeds.length] as Feeds });
      requests += 1;
      calls += 1 / batchSize;
    },
    { callers, ...duration },
  ).finally(() => clearInterval(beat));
  return { batchSize: requests / calls, ...load };
}
