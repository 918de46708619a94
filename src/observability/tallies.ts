import { Counter } from 'prom-client';

interface TallyOptions {
  readonly name: string;
  readonly help: string;
  /** At most one. */
  readonly labelNames: readonly string[];
}

/** The count under one label, for a caller that counts nothing else. */
export interface TallyLine {
  sum: number;
}

/**
 * A counter for events of every request: a number in a map, which prom-client's counter takes over when it is read.
 * `inc` of prom-client takes longer than all other work of the calling thread for a request in a batch.
 */
export class CounterTally {
  readonly metric: Counter;
  readonly #lines = new Map<string, TallyLine>();
  readonly #label: string | undefined;

  constructor({ name, help, labelNames }: TallyOptions) {
    [this.#label] = labelNames;
    this.metric = new Counter({
      name,
      help,
      labelNames: [...labelNames],
      registers: [],
      collect: () => this.#collect(),
    });
  }

  /** @param label value of the label; without one, all count together. */
  add(label: string, amount: number): void {
    this.line(label).sum += amount;
  }

  /** Returns the count under the label. The caller adds to it. */
  line(label: string): TallyLine {
    let line = this.#lines.get(label);
    if (line === undefined) {
      line = { sum: 0 };
      this.#lines.set(label, line);
    }
    return line;
  }

  #collect(): void {
    for (const [value, line] of this.#lines) {
      if (line.sum === 0) continue;
      this.metric.inc(labelsOf(this.#label, value), line.sum);
      line.sum = 0;
    }
  }
}

interface Distribution {
  /** Counts by upper bound; the last is for values above all bounds. */
  readonly counts: Float64Array;
  sum: number;
}

/** A histogram for values of every request. prom-client's registry reads it like one of its own. */
export class HistogramTally {
  readonly name: string;
  readonly help: string;
  readonly #buckets: readonly number[];
  readonly #label: string | undefined;
  readonly #distributions = new Map<string, Distribution>();

  /** @param options `buckets` are upper bounds in ascending order. */
  constructor({ name, help, labelNames, buckets }: TallyOptions & { readonly buckets: readonly number[] }) {
    this.name = name;
    this.help = help;
    this.#buckets = buckets;
    [this.#label] = labelNames;
    if (this.#label === undefined) this.#distribution('');
  }

  /** @param label value of the label; without one, all count together. */
  observe(label: string, value: number): void {
    const distribution = this.#distribution(this.#label === undefined ? '' : label);
    let bucket = 0;
    while (bucket < this.#buckets.length && value > (this.#buckets[bucket] as number)) bucket += 1;
    distribution.counts[bucket] = (distribution.counts[bucket] as number) + 1;
    distribution.sum += value;
  }

  reset(): void {
    this.#distributions.clear();
    if (this.#label === undefined) this.#distribution('');
  }

  /** Returns the values as prom-client's registry reads them from a metric. */
  async get() {
    const values = [...this.#distributions].flatMap(([label, distribution]) => this.#valuesOf(label, distribution));
    return { name: this.name, help: this.help, type: 'histogram', aggregator: 'sum', values };
  }

  #valuesOf(label: string, { counts, sum }: Distribution) {
    const labels = labelsOf(this.#label, label);
    let count = 0;
    const buckets = [...this.#buckets, '+Inf'].map((le, index) => {
      count += counts[index] as number;
      return { metricName: `${this.name}_bucket`, labels: { le, ...labels }, value: count };
    });
    return [
      ...buckets,
      { metricName: `${this.name}_sum`, labels, value: sum },
      { metricName: `${this.name}_count`, labels, value: count },
    ];
  }

  #distribution(label: string): Distribution {
    let distribution = this.#distributions.get(label);
    if (distribution === undefined) {
      distribution = { counts: new Float64Array(this.#buckets.length + 1), sum: 0 };
      this.#distributions.set(label, distribution);
    }
    return distribution;
  }
}

function labelsOf(label: string | undefined, value: string): Record<string, string> {
  return label === undefined ? {} : { [label]: value };
}
