import { Registry } from 'prom-client';
import { ReadMetric } from './read-metric.js';

interface Readable {
  get(): Promise<unknown>;
}

/** Writes one metric. prom-client's types do not name this method, which its `metrics()` calls for each metric. */
type Writer = (this: Registry, metric: Readable) => Promise<string>;

const { getMetricsAsString: write } = Registry.prototype as unknown as { getMetricsAsString: Writer };

/**
 * A registry that reads and writes long metrics in pieces, and goes on with other work in between. So few values are in
 * memory at a time, which the garbage collector would have to move. The text is prom-client's.
 */
export class PiecewiseRegistry extends Registry {
  async getMetricsAsString(metric: Readable): Promise<string> {
    if (!(metric instanceof ReadMetric)) return write.call(this, metric);
    const head = await write.call(this, { get: async () => metric.with([]) });
    let text = head;
    for await (const values of metric.pieces()) {
      text += (await write.call(this, { get: async () => metric.with(values) })).slice(head.length);
    }
    return text;
  }
}
