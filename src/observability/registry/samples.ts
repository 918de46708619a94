import type { Count, Distribution, Labels, Series } from '../series/lines.js';

/** A line of the text, in the form of prom-client. */
export interface Sample {
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  /** Default: the name of the metric. */
  readonly metricName?: string;
  /** More labels. Many samples have the same object, so that prom-client writes them once. */
  readonly sharedLabels?: Labels;
}

export function* countSamples(series: Iterable<Series<Count>>): Iterable<Sample> {
  for (const { labels, line } of series) yield { labels, value: line.sum };
}

/** @param bounds upper bounds of the distributions, in ascending order. */
export function* distributionSamples(
  name: string,
  bounds: readonly number[],
  series: Iterable<Series<Distribution>>,
): Iterable<Sample> {
  const [metricName, ends] = [`${name}_bucket`, [...bounds, '+Inf'].map((le) => ({ le }))];
  for (const { labels: sharedLabels, line } of series) {
    let value = 0;
    for (const [bucket, labels] of ends.entries()) {
      value += line.counts[bucket] as number;
      yield { metricName, labels, sharedLabels, value };
    }
    yield { metricName: `${name}_sum`, labels: {}, sharedLabels, value: line.sum };
    yield { metricName: `${name}_count`, labels: {}, sharedLabels, value };
  }
}
