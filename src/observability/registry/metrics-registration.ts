import type { Metric, Registry } from 'prom-client';
import { InfermuxError } from '../../common/errors.js';
import { Count, Distribution, type Labels, type Line, type Series, type SeriesSource } from '../series/lines.js';
import { type Presence, SeriesTable } from '../series/series-table.js';
import { shownLabels } from './label-values.js';
import { PiecewiseRegistry } from './piecewise-registry.js';
import { ReadMetric, type ReadMetricOptions } from './read-metric.js';
import { countSamples, distributionSamples } from './samples.js';
import type { ScrapeTurns } from './scrape-turns.js';

const PREFIX = 'infermux_';

/** One value of a gauge. */
export interface GaugeSample {
  readonly labels: Labels;
  readonly value: number;
}

/** Creates metrics with the prefix `infermux_` in a registry, and takes them out of it again. */
export class MetricsRegistration {
  readonly registry: Registry;
  readonly #isOwnRegistry: boolean;
  readonly #turns: ScrapeTurns;
  readonly #presence: () => Presence;
  readonly #names: string[] = [];
  readonly #tables: { sweep(isThere: Presence): void }[] = [];

  /**
   * @param registry the caller's registry; when undefined the metrics get one of their own.
   * @param presence returns what is there now.
   * @throws InfermuxError `FAILED_PRECONDITION` when the registry has metrics of another engine.
   */
  constructor(registry: Registry | undefined, turns: ScrapeTurns, presence: () => Presence) {
    this.registry = registry ?? new PiecewiseRegistry();
    this.#isOwnRegistry = registry === undefined;
    this.#turns = turns;
    this.#presence = presence;
    this.#checkUnused();
  }

  /** Moves what was counted for things that are gone. */
  sweep(): void {
    const isThere = this.#presence();
    for (const table of this.#tables) table.sweep(isThere);
  }

  /** Removes the metrics from the caller's registry. The engine's own registry stays readable. */
  close(): void {
    if (this.#isOwnRegistry) return;
    for (const name of this.#names) this.registry.removeSingleMetric(name);
  }

  counter(name: string, help: string, labelNames: readonly string[]): SeriesTable<Count> {
    const table = new SeriesTable(labelNames, () => new Count(), this.#presence);
    this.#tables.push(table);
    this.counterOf(name, help, table);
    return table;
  }

  /** @param bounds upper bounds in ascending order. */
  histogram(
    name: string,
    help: string,
    labelNames: readonly string[],
    bounds: readonly number[],
  ): SeriesTable<Distribution> {
    const table = new SeriesTable(labelNames, () => new Distribution(bounds), this.#presence);
    this.#tables.push(table);
    this.histogramOf(name, help, bounds, table);
    return table;
  }

  counterOf(suffix: string, help: string, source: SeriesSource<Count>): void {
    this.foreignCounter(`${PREFIX}${suffix}`, help, source);
  }

  /** @param name one that is not of this package. */
  foreignCounter(name: string, help: string, source: SeriesSource<Count>): void {
    const [read, reset] = [() => countSamples(snapshot(source)), () => source.reset()];
    this.#register({ name, help, type: 'counter', read, reset });
  }

  histogramOf(suffix: string, help: string, bounds: readonly number[], source: SeriesSource<Distribution>): void {
    const name = `${PREFIX}${suffix}`;
    const [read, reset] = [() => distributionSamples(name, bounds, snapshot(source)), () => source.reset()];
    this.#register({ name, help, type: 'histogram', read, reset });
  }

  gauge(suffix: string, help: string, read: () => readonly GaugeSample[] | Promise<readonly GaugeSample[]>): void {
    this.foreignGauge(`${PREFIX}${suffix}`, help, read);
  }

  /** @param name one that is not of this package. */
  foreignGauge(name: string, help: string, read: () => readonly GaugeSample[] | Promise<readonly GaugeSample[]>): void {
    const shown = async () => Array.from(await read(), ({ labels, value }) => ({ labels: shownLabels(labels), value }));
    this.#register({ name, help, type: 'gauge', read: shown, reset: () => undefined });
  }

  #checkUnused(): void {
    const other = this.registry.getMetricsAsArray().find(({ name }) => name.startsWith(PREFIX));
    if (other === undefined) return;
    throw new InfermuxError(
      'FAILED_PRECONDITION',
      `options.registry has a metric ${other.name} already: give each engine its own registry, or close the other engine first`,
    );
  }

  #register(options: ReadMetricOptions): void {
    this.#names.push(options.name);
    this.registry.registerMetric(new ReadMetric(options, this.#turns) as unknown as Metric);
  }
}

/**
 * Copies the values, so that all are of one moment: what moves from one series to another is in one of them. The labels
 * are those that a scrape can show.
 */
function snapshot<L extends Line<L>>(source: SeriesSource<L>): Series<L>[] {
  return Array.from(source.counted(), ({ labels, line }) => ({ labels: shownLabels(labels), line: line.copy() }));
}
