import { Counter, Gauge, Histogram, type Metric, Registry } from 'prom-client';
import { InfermuxError } from '../common/errors.js';
import { CounterTally, HistogramTally } from './tallies.js';

const PREFIX = 'infermux_';
/** 0.1 ms to 10 s, in seconds. */
export const SECONDS = [
  0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
];

/** Creates metrics with the prefix `infermux_` in a registry, and takes them out of it again. */
export class MetricsRegistration {
  readonly registry: Registry;
  readonly #isOwnRegistry: boolean;
  readonly #names: string[] = [];

  /**
   * @param registry the caller's registry; when undefined the metrics get one of their own.
   * @throws InfermuxError `FAILED_PRECONDITION` when the registry has metrics of another engine.
   */
  constructor(registry: Registry | undefined) {
    this.registry = registry ?? new Registry();
    this.#isOwnRegistry = registry === undefined;
    this.#checkUnused();
  }

  /** Removes the metrics from the caller's registry. The engine's own registry stays readable. */
  close(): void {
    if (this.#isOwnRegistry) return;
    for (const name of this.#names) this.registry.removeSingleMetric(name);
  }

  counter(name: string, help: string, labelNames: string[]): Counter {
    return this.#register(new Counter({ name: this.#claim(name), help, labelNames, registers: [] }));
  }

  tally(name: string, help: string, labelNames: string[]): CounterTally {
    const tally = new CounterTally({ name: this.#claim(name), help, labelNames });
    this.#register(tally.metric);
    return tally;
  }

  tallyHistogram(name: string, help: string, labelNames: string[], buckets: readonly number[]): HistogramTally {
    const tally = new HistogramTally({ name: this.#claim(name), help, labelNames, buckets });
    this.registry.registerMetric(tally as unknown as Metric);
    return tally;
  }

  histogram(name: string, help: string, labelNames: string[], buckets = SECONDS): Histogram {
    return this.#register(new Histogram({ name: this.#claim(name), help, labelNames, buckets, registers: [] }));
  }

  gauge(name: string, help: string, labelNames: string[], collect: (gauge: Gauge) => void): void {
    const options = { name: this.#claim(name), help, labelNames, registers: [] };
    this.#register(
      new Gauge({
        ...options,
        collect() {
          // A label that is gone must not keep its last value.
          this.reset();
          collect(this);
        },
      }),
    );
  }

  #checkUnused(): void {
    const other = this.registry.getMetricsAsArray().find(({ name }) => name.startsWith(PREFIX));
    if (other === undefined) return;
    throw new InfermuxError(
      'FAILED_PRECONDITION',
      `options.registry has a metric ${other.name} already: give each engine a registry of its own, or close the other first`,
    );
  }

  #claim(suffix: string): string {
    const name = `${PREFIX}${suffix}`;
    this.#names.push(name);
    return name;
  }

  #register<M extends Metric>(metric: M): M {
    this.registry.registerMetric(metric);
    return metric;
  }
}
