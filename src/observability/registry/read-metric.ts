import type { Sample } from './samples.js';
import { ITEMS_A_TURN, type ScrapeTurns } from './scrape-turns.js';

export interface ReadMetricOptions {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** Reads the values of one moment, which are then used in several turns of the event loop. */
  read(): Iterable<Sample> | Promise<Iterable<Sample>>;
  reset(): void;
}

/** A metric that has its values elsewhere. prom-client's registry reads it like one of its own. */
export class ReadMetric {
  /** prom-client takes the end `_total` away when it writes OpenMetrics. */
  name: string;
  readonly help: string;
  readonly type: ReadMetricOptions['type'];
  readonly aggregator = 'sum';
  readonly #options: ReadMetricOptions;
  readonly #turns: ScrapeTurns;

  constructor(options: ReadMetricOptions, turns: ScrapeTurns) {
    this.name = options.name;
    this.help = options.help;
    this.type = options.type;
    this.#options = options;
    this.#turns = turns;
  }

  reset(): void {
    this.#options.reset();
  }

  /** Returns the values, with all labels in `labels`. */
  get() {
    return this.#read(withAllLabels);
  }

  /** Returns the values, as prom-client writes them to the text. */
  getForPromString() {
    return this.#read((sample) => sample);
  }

  /** Yields the values as {@link getForPromString} returns them, few in each turn of the event loop. */
  async *pieces(): AsyncGenerator<readonly Sample[]> {
    await this.#turns.toRead();
    let piece: Sample[] = [];
    for (const sample of await this.#options.read()) {
      if (piece.length === ITEMS_A_TURN) {
        yield piece;
        piece = [];
        await this.#turns.next();
      }
      piece.push(sample);
    }
    yield piece;
  }

  /** Returns the metric with these values. */
  with(values: readonly Sample[]) {
    const { name, help, type, aggregator } = this;
    return { name, help, type, aggregator, values };
  }

  async #read(form: (sample: Sample) => Sample) {
    const values: Sample[] = [];
    for await (const piece of this.pieces()) for (const sample of piece) values.push(form(sample));
    return this.with(values);
  }
}

/** Not by spreads of the whole: there are thousands of samples, and such objects take several times the memory. */
function withAllLabels({ labels, value, metricName, sharedLabels }: Sample): Sample {
  const all = sharedLabels === undefined ? labels : { ...labels, ...sharedLabels };
  return metricName === undefined ? { labels: all, value } : { labels: all, value, metricName };
}
