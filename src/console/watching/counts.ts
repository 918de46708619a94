import type { EngineStatus, InferenceEngine } from '../../index.js';
import type { Activity, Latency } from '../messages.js';

/** A histogram so far: how many values are at most as large as each bound, in seconds. */
export interface Histogram {
  readonly bounds: readonly number[];
  readonly counts: readonly number[];
  readonly count: number;
  readonly sum: number;
}

/** What the engine's metrics have counted so far. */
export interface Counts {
  /** Milliseconds of a clock that never goes back. */
  readonly at: number;
  /** Answered requests by model: those that the metrics name, and `other`. */
  readonly durations: ReadonlyMap<string, Histogram>;
  readonly modelErrors: ReadonlyMap<string, number>;
  readonly errors: number;
  readonly batches: Histogram;
  readonly endpoints: ReadonlyMap<string, number>;
  readonly loads: number;
  readonly evictions: number;
  readonly completed: ReadonlyMap<string, number>;
}

interface Sample {
  readonly metricName?: string;
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number | undefined>>;
}

const NO_LABEL = '';

/**
 * Reads the counts of now.
 *
 * @param status of the engine, now.
 */
export async function readCounts(
  { metrics }: InferenceEngine,
  { replicas }: EngineStatus,
  at: number,
): Promise<Counts> {
  const read = async (name: string): Promise<readonly Sample[]> =>
    (await metrics.getSingleMetric(`infermux_${name}`)?.get())?.values ?? [];
  const [durations, modelErrors, errors, batches, endpoints, loads, unloads] = await Promise.all(
    [
      ...['request_duration_seconds', 'model_request_errors_total', 'request_errors_total', 'batch_size'],
      ...['endpoint_requests_total', 'model_loads_total', 'model_unloads_total'],
    ].map(read),
  );
  return {
    at,
    durations: histograms(durations ?? [], 'model'),
    modelErrors: sums(modelErrors ?? [], 'model'),
    errors: total(errors ?? []),
    batches: histograms(batches ?? [], 'none').get(NO_LABEL) ?? NOTHING,
    endpoints: sums(endpoints ?? [], 'endpoint'),
    loads: total(loads ?? []),
    evictions: total((unloads ?? []).filter(({ labels }) => labels['reason'] === 'evicted')),
    completed: new Map(replicas.map(({ id, completed, failed }) => [id, completed + failed])),
  };
}

const NOTHING: Histogram = { bounds: [], counts: [], count: 0, sum: 0 };

function total(samples: readonly Sample[]): number {
  return samples.reduce((sum, { value }) => sum + value, 0);
}

function sums(samples: readonly Sample[], label: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const { labels, value } of samples) {
    const name = String(labels[label] ?? NO_LABEL);
    found.set(name, (found.get(name) ?? 0) + value);
  }
  return found;
}

/** The samples of a histogram come in the order of its bounds, which all series have. */
function histograms(samples: readonly Sample[], label: string): Map<string, Histogram> {
  const found = new Map<string, { bounds: readonly number[]; counts: number[]; count: number; sum: number }>();
  const bounds: number[] = [];
  for (const { metricName = '', labels, value } of samples) {
    const name = String(labels[label] ?? NO_LABEL);
    let own = found.get(name);
    if (own === undefined) {
      own = { bounds, counts: [], count: 0, sum: 0 };
      found.set(name, own);
    }
    if (metricName.endsWith('_sum')) own.sum = value;
    else if (metricName.endsWith('_count')) own.count = value;
    else if (labels['le'] !== '+Inf') {
      own.counts.push(value);
      if (own.counts.length > bounds.length) bounds.push(Number(labels['le']));
    }
  }
  return found;
}

/** What went on between two counts, and how quickly. */
export class Interval {
  readonly #before: Counts;
  readonly #after: Counts;
  readonly #seconds: number;

  constructor(before: Counts, after: Counts) {
    this.#before = before;
    this.#after = after;
    this.#seconds = Math.max(1e-3, (after.at - before.at) / 1_000);
  }

  /** Of one model, as the metrics name it. */
  ofModel(name: string): Activity {
    const durations = difference(this.#before.durations.get(name), this.#after.durations.get(name));
    return {
      requests: this.#rate(durations.count),
      errors: this.#rate((this.#after.modelErrors.get(name) ?? 0) - (this.#before.modelErrors.get(name) ?? 0)),
      latency: latencyOf(durations),
    };
  }

  get total(): Activity {
    const all = [...this.#after.durations].map(([name, after]) => difference(this.#before.durations.get(name), after));
    const sum = all.reduce(added, NOTHING);
    return {
      requests: this.#rate(sum.count),
      errors: this.#rate(this.#after.errors - this.#before.errors),
      latency: latencyOf(sum),
    };
  }

  /** Requests of a call on average; undefined without calls. */
  get batch(): number | undefined {
    const { sum, count } = difference(this.#before.batches, this.#after.batches);
    return count === 0 ? undefined : sum / count;
  }

  ofEndpoint(name: string): number {
    return this.#rate((this.#after.endpoints.get(name) ?? 0) - (this.#before.endpoints.get(name) ?? 0));
  }

  ofReplica(id: string): number {
    // A replica that was started again counts anew.
    const done = (this.#after.completed.get(id) ?? 0) - (this.#before.completed.get(id) ?? 0);
    return this.#rate(Math.max(0, done));
  }

  get loads(): number {
    return this.#rate(this.#after.loads - this.#before.loads);
  }

  get evictions(): number {
    return this.#rate(this.#after.evictions - this.#before.evictions);
  }

  #rate(count: number): number {
    return Math.max(0, count) / this.#seconds;
  }
}

function difference(before: Histogram | undefined, after: Histogram | undefined): Histogram {
  if (after === undefined) return NOTHING;
  if (before === undefined || before.count > after.count) return after;
  return {
    bounds: after.bounds,
    counts: after.counts.map((count, index) => count - (before.counts[index] ?? 0)),
    count: after.count - before.count,
    sum: after.sum - before.sum,
  };
}

function added(left: Histogram, right: Histogram): Histogram {
  if (left.count === 0) return right;
  return {
    bounds: right.bounds,
    counts: right.counts.map((count, index) => count + (left.counts[index] ?? 0)),
    count: left.count + right.count,
    sum: left.sum + right.sum,
  };
}

/** Percentiles in milliseconds, as `histogram_quantile` of Prometheus finds them: a bucket's values lie evenly in it. */
export function latencyOf({ bounds, counts, count }: Histogram): Latency | undefined {
  if (count === 0) return undefined;
  const quantile = (share: number) => {
    const rank = share * count;
    const index = counts.findIndex((below) => below >= rank);
    // Beyond the last bound, nothing is known but that.
    if (index === -1) return 1_000 * (bounds.at(-1) ?? 0);
    const [low, high] = [index === 0 ? 0 : (bounds[index - 1] ?? 0), bounds[index] ?? 0];
    const [before, within] = [index === 0 ? 0 : (counts[index - 1] ?? 0), counts[index] ?? 0];
    return 1_000 * (within === before ? high : low + ((high - low) * (rank - before)) / (within - before));
  };
  return { p50: quantile(0.5), p95: quantile(0.95), p99: quantile(0.99) };
}
