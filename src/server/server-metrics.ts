import { Gauge, type Metric, type Registry } from 'prom-client';
import type { Admission } from './inference/admission.js';

export type Protocol = 'http' | 'grpc';

/** Upper bounds of the buckets of times, in seconds. */
const BOUNDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

const NAMES = {
  requests: 'infermux_server_requests_total',
  seconds: 'infermux_server_request_duration_seconds',
  ongoing: 'infermux_server_ongoing_requests',
  bytes: 'infermux_server_body_bytes',
  connections: 'infermux_server_connections',
} as const;

/** Answers of one method. Counted here: prom-client makes a text of all labels for each count. */
class Answers {
  readonly codes = new Map<number, number>();
  readonly buckets = new Array<number>(BOUNDS.length + 1).fill(0);
  seconds = 0;

  add(code: number, seconds: number): void {
    this.codes.set(code, (this.codes.get(code) ?? 0) + 1);
    let bucket = 0;
    while (bucket < BOUNDS.length && seconds > (BOUNDS[bucket] as number)) bucket += 1;
    this.buckets[bucket] = (this.buckets[bucket] as number) + 1;
    this.seconds += seconds;
  }
}

interface Sample {
  readonly metricName?: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** What the servers of one engine count together. */
class Counts {
  readonly answers = { http: new Map<string, Answers>(), grpc: new Map<string, Answers>() };
  readonly connections = { http: 0, grpc: 0 };
  readonly admissions = new Set<Admission>();

  constructor(registry: Registry) {
    const gauge = (name: string, help: string, read: (admission: Admission) => number) =>
      new Gauge({
        ...{ name, help, registers: [registry] },
        collect: () => {
          let sum = 0;
          for (const admission of this.admissions) sum += read(admission);
          (registry.getSingleMetric(name) as Gauge).set(sum);
        },
      });
    gauge(NAMES.ongoing, 'Requests that a server has accepted and not answered.', ({ requests }) => requests);
    gauge(NAMES.bytes, 'Bytes of the bodies of these requests.', ({ bytes }) => bytes);
    this.#register(registry, 'gauge', NAMES.connections, 'Open connections.', () => [
      { labels: { protocol: 'http' }, value: this.connections.http },
      { labels: { protocol: 'grpc' }, value: this.connections.grpc },
    ]);
    this.#register(registry, 'counter', NAMES.requests, 'Requests that a server has answered, by status code.', () =>
      this.#each((labels, { codes }) => [...codes].map(([code, value]) => ({ labels: { ...labels, code }, value }))),
    );
    const help = 'Seconds from the head of a request to the end of its answer.';
    this.#register(registry, 'histogram', NAMES.seconds, help, () => this.#each(bucketSamples));
  }

  of(protocol: Protocol, method: string): Answers {
    const known = this.answers[protocol].get(method);
    if (known !== undefined) return known;
    const answers = new Answers();
    this.answers[protocol].set(method, answers);
    return answers;
  }

  #each(samplesOf: (labels: Sample['labels'], answers: Answers) => Sample[]): Sample[] {
    return Object.entries(this.answers).flatMap(([protocol, methods]) =>
      [...methods].flatMap(([method, answers]) => samplesOf({ protocol, method }, answers)),
    );
  }

  #register(registry: Registry, type: string, name: string, help: string, read: () => Sample[]): void {
    const get = async () => ({ name, help, type, aggregator: 'sum', values: read() });
    const metric = { name, help, type, aggregator: 'sum', get, getForPromString: get, reset: () => undefined };
    registry.registerMetric(metric as unknown as Metric);
  }
}

function bucketSamples(labels: Sample['labels'], { buckets, seconds }: Answers): Sample[] {
  let value = 0;
  const samples: Sample[] = buckets.map((count, index) => {
    value += count;
    return { metricName: `${NAMES.seconds}_bucket`, labels: { ...labels, le: BOUNDS[index] ?? '+Inf' }, value };
  });
  samples.push({ metricName: `${NAMES.seconds}_sum`, labels, value: seconds });
  samples.push({ metricName: `${NAMES.seconds}_count`, labels, value });
  return samples;
}

const counts = new WeakMap<Registry, Counts>();

/** Prometheus metrics of a server, in its engine's registry. Several servers of an engine share them. */
export class ServerMetrics {
  readonly #counts: Counts;
  readonly #admission: Admission;

  constructor(registry: Registry, admission: Admission) {
    this.#admission = admission;
    this.#counts = counts.get(registry) ?? new Counts(registry);
    counts.set(registry, this.#counts);
    this.#counts.admissions.add(admission);
  }

  /** @param code the status: of HTTP, or the number of gRPC's. */
  answered(protocol: Protocol, method: string, code: number, seconds: number): void {
    this.#counts.of(protocol, method).add(code, seconds);
  }

  /** Connections have come or gone. */
  connected(protocol: 'http' | 'grpc', change: 1 | -1): void {
    this.#counts.connections[protocol] += change;
  }

  close(): void {
    this.#counts.admissions.delete(this.#admission);
  }
}
