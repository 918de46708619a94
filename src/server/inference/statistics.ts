import type { InferenceResult } from '../../index.js';

/** What is counted of an answer. */
export type CountedAnswer = Pick<InferenceResult, 'model' | 'version' | 'deployment' | 'batchSize' | 'timings'>;

/** What the engine names in place of a model where a handler has answered that runs none of its own. */
const NO_MODEL = '(handler)';

/** How often something was, and how many nanoseconds it took in all. */
export interface Duration {
  count: number;
  ns: number;
}

/** The sum of the calls that had so many requests. */
export interface BatchStatistics {
  readonly batch_size: number;
  readonly compute_input: Duration;
  readonly compute_infer: Duration;
  readonly compute_output: Duration;
}

/** Statistics of one version of a model, in the form of the protocol's extension. */
export interface ModelStatistics {
  readonly name: string;
  readonly version: string;
  /** Milliseconds as of `Date.now()`. */
  readonly last_inference: number;
  readonly inference_count: number;
  readonly execution_count: number;
  readonly inference_stats: Readonly<Record<(typeof PARTS)[number], Duration>>;
  readonly batch_stats: readonly BatchStatistics[];
}

const PARTS = [
  ...(['success', 'fail', 'queue', 'compute_input', 'compute_infer', 'compute_output'] as const),
  ...(['cache_hit', 'cache_miss'] as const),
] as const;

const NS_PER_MS = 1e6;
/** Most versions of models with counts. The ones that were not asked for longest are forgotten. */
const MOST_COUNTED = 10_000;

/** Counts the answers to requests that came to this server, by model and version. */
export class InferenceStatistics {
  readonly #counts = new Map<string, Counts>();

  answered(result: CountedAnswer): void {
    const { model, version, deployment } = result;
    this.#of(model === NO_MODEL ? deployment : model, version).answered(result);
  }

  /** @param ms from the request to its failure. */
  failed(model: string, version: number, ms: number): void {
    this.#of(model, version).failed(ms);
  }

  /** Statistics of a version, all zero if it had no request. */
  read(model: string, version: number): ModelStatistics {
    const counts = this.#counts.get(keyOf(model, version)) ?? new Counts();
    return { name: model, version: String(version), ...counts.read() };
  }

  #of(model: string, version: number): Counts {
    const key = keyOf(model, version);
    let counts = this.#counts.get(key);
    if (counts !== undefined) return counts;
    counts = new Counts();
    this.#counts.set(key, counts);
    if (this.#counts.size > MOST_COUNTED) this.#counts.delete(this.#oldest());
    return counts;
  }

  #oldest(): string {
    let [oldest, least] = ['', Number.POSITIVE_INFINITY];
    for (const [key, { lastAt }] of this.#counts) if (lastAt < least) [oldest, least] = [key, lastAt];
    return oldest;
  }
}

const keyOf = (model: string, version: number) => `${model}@${version}`;

class Counts {
  lastAt = 0;
  #answers = 0;
  /** Each request is its share of a call, so that the sum is the number of calls. */
  #calls = 0;
  #failures = 0;
  #failedMs = 0;
  #totalMs = 0;
  #queueMs = 0;
  #loadMs = 0;
  #runMs = 0;
  readonly #batches = new Map<number, { calls: number; ms: number }>();

  answered({ batchSize, timings: { queueMs, loadMs, runMs, totalMs } }: CountedAnswer): void {
    this.lastAt = Date.now();
    this.#answers += 1;
    this.#calls += 1 / batchSize;
    this.#totalMs += totalMs;
    this.#queueMs += queueMs;
    this.#loadMs += loadMs;
    this.#runMs += runMs;
    const batch = this.#batches.get(batchSize);
    if (batch === undefined) this.#batches.set(batchSize, { calls: 1 / batchSize, ms: runMs / batchSize });
    else {
      batch.calls += 1 / batchSize;
      batch.ms += runMs / batchSize;
    }
  }

  failed(ms: number): void {
    this.#failures += 1;
    this.#failedMs += ms;
  }

  read(): Omit<ModelStatistics, 'name' | 'version'> {
    const of = (ms: number, count = this.#answers): Duration => ({ count, ns: Math.round(ms * NS_PER_MS) });
    // What is neither waiting nor a run: the way to the replica and back.
    const rest = Math.max(0, this.#totalMs - this.#queueMs - this.#loadMs - this.#runMs);
    return {
      last_inference: this.lastAt,
      inference_count: this.#answers,
      execution_count: Math.round(this.#calls),
      inference_stats: {
        success: of(this.#totalMs),
        fail: of(this.#failedMs, this.#failures),
        queue: of(this.#queueMs + this.#loadMs),
        compute_input: of(rest / 2),
        compute_infer: of(this.#runMs),
        compute_output: of(rest / 2),
        cache_hit: of(0, 0),
        cache_miss: of(0, 0),
      },
      batch_stats: [...this.#batches]
        .sort(([left], [right]) => left - right)
        .map(([batch_size, { calls, ms }]) => {
          const count = Math.max(1, Math.round(calls));
          return {
            batch_size,
            compute_input: of(0, count),
            compute_infer: of(ms, count),
            compute_output: of(0, count),
          };
        }),
    };
  }
}
