import { Registry } from 'prom-client';
import { ITEMS_A_TURN, type ScrapeTurns } from './scrape-turns.js';

interface Values {
  readonly values?: readonly unknown[];
}

interface Readable {
  get(): Promise<Values>;
  getForPromString?(): Promise<Values>;
}

/** Writes one metric. prom-client's types do not name this method, which its `metrics()` calls for each metric. */
type Writer = (this: Registry, metric: Readable) => Promise<string>;

const { getMetricsAsString: write } = Registry.prototype as unknown as { getMetricsAsString: Writer };

/** A registry that writes long metrics in pieces, and goes on with other work in between. The text is prom-client's. */
export class PiecewiseRegistry extends Registry {
  readonly #turns: ScrapeTurns;

  constructor(turns: ScrapeTurns) {
    super();
    this.#turns = turns;
  }

  async getMetricsAsString(metric: Readable): Promise<string> {
    const whole = await (metric.getForPromString?.() ?? metric.get());
    const { values = [] } = whole;
    const piece = (from: number, to: number) =>
      write.call(this, { get: async () => ({ ...whole, values: values.slice(from, to) }) });
    let text = await piece(0, ITEMS_A_TURN);
    const head = values.length > ITEMS_A_TURN ? await piece(0, 0) : '';
    for (let from = ITEMS_A_TURN; from < values.length; from += ITEMS_A_TURN) {
      await this.#turns.next();
      text += (await piece(from, from + ITEMS_A_TURN)).slice(head.length);
    }
    return text;
  }
}
