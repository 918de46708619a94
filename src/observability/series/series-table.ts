import { type Labels, type Line, OTHER, type Series, type SeriesSource } from './lines.js';

/** Says whether what a label's value stands for is still there. The values of the series' other labels may matter. */
export type Presence = (label: string, labels: Labels) => boolean;

/** Number of series up to which a table is not swept between two scrapes. */
const FEW = 128;

/**
 * The series of one metric. Values of labels that stand for something that is gone become `(other)`, and what was counted
 * under them is added there: so the sum over all series never goes down.
 */
export class SeriesTable<L extends Line<L>> implements SeriesSource<L> {
  readonly #labelNames: readonly string[];
  readonly #create: () => L;
  readonly #presence: () => Presence;
  readonly #series = new Map<string, Series<L>>();
  /** At this number of series the table is swept although nobody reads it. */
  #sweepAt = FEW;

  /** @param presence called before a sweep. */
  constructor(labelNames: readonly string[], create: () => L, presence: () => Presence) {
    this.#labelNames = labelNames;
    this.#create = create;
    this.#presence = presence;
    if (labelNames.length === 0) this.at();
  }

  /** Returns the line of the series with these values of the labels, in the order of the labels' names. */
  at(...values: readonly string[]): L {
    const series = this.#series.get(keyOf(values));
    if (series !== undefined) return series.line;
    if (this.#series.size >= this.#sweepAt) {
      this.sweep(this.#presence());
      this.#sweepAt = Math.max(FEW, 2 * this.#series.size);
    }
    return this.#add(values);
  }

  /** Renames the values that stand for something that is gone to `(other)`. */
  sweep(isThere: Presence): void {
    for (const [key, { labels, line }] of this.#series) {
      let isGone = false;
      const values = this.#labelNames.map((name) => {
        const value = labels[name] as string;
        if (value === OTHER || isThere(name, labels)) return value;
        isGone = true;
        return OTHER;
      });
      if (!isGone) continue;
      this.#series.delete(key);
      line.addTo(this.#series.get(keyOf(values))?.line ?? this.#add(values));
    }
  }

  *counted(): Iterable<Series<L>> {
    for (const series of this.#series.values()) {
      if (this.#labelNames.length === 0 || !series.line.isEmpty) yield series;
    }
  }

  reset(): void {
    for (const { line } of this.#series.values()) line.reset();
  }

  #add(values: readonly string[]): L {
    const labels = Object.fromEntries(this.#labelNames.map((name, index) => [name, values[index] as string]));
    const line = this.#create();
    this.#series.set(keyOf(values), { labels, line });
    return line;
  }
}

function keyOf(values: readonly string[]): string {
  return values.length === 1 ? (values[0] as string) : JSON.stringify(values);
}
