import type { Sample } from './samples.js';
import type { ScrapeTurns } from './scrape-turns.js';

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
    return this.#read(({ sharedLabels, labels, ...sample }) => ({ ...sample, labels: { ...labels, ...sharedLabels } }));
  }

  /** Returns the values, as prom-client writes them to the text. */
  getForPromString() {
    return this.#read((sample) => sample);
  }

  async #read(form: (sample: Sample) => Sample) {
    await this.#turns.toRead();
    const { name, help, type, aggregator } = this;
    const values: Sample[] = [];
    await this.#turns.forEach(await this.#options.read(), (sample) => values.push(form(sample)));
    return { name, help, type, aggregator, values };
  }
}
