import { Challengers } from './challengers.js';
import { changesOfPlace } from './changes-of-place.js';
import { Count, type Line, OTHER, type SeriesSource } from './lines.js';
import { ModelSeries } from './model-series.js';

/** After this time a use counts half. */
const HALF_LIFE_MS = 300_000;

export interface BusiestModelsOptions {
  /** Most models with series of their own. With 0 all models count together, and no series has the label `model`. */
  readonly most: number;
  /** Bounds of the buckets of times. */
  readonly seconds: readonly number[];
  /** Milliseconds. */
  readonly now: () => number;
  /** Whether the model is still there. */
  readonly isThere: (model: string) => boolean;
}

/**
 * The series of models. The busiest models have series of their own, the others share those of `(other)`. A model that
 * loses its own series, or is gone, leaves its counts to `(other)`; one that gains its own begins to count in them.
 */
export class BusiestModels {
  readonly #options: BusiestModelsOptions;
  readonly #own = new Map<string, ModelSeries>();
  readonly #other: ModelSeries;
  readonly #challengers: Challengers;
  #reviewedAt: number;
  /** How many requests of models without a place come before it is looked whether holders of places are gone. */
  #untilLook = 0;
  /** The model with series of its own that was asked for last: a model's requests often come one after the other. */
  #lastName: string | undefined;
  #last: ModelSeries;

  constructor(options: BusiestModelsOptions) {
    this.#options = options;
    this.#other = new ModelSeries(OTHER, options.most === 0 ? {} : { model: OTHER }, options.seconds);
    this.#last = this.#other;
    this.#challengers = new Challengers(options.most);
    this.#reviewedAt = options.now();
  }

  /** The series of one metric, that of `(other)` last. @param lineOf returns the metric's line of a model. */
  lines<L extends Line<L>>(lineOf: (series: ModelSeries) => L): SeriesSource<L> {
    const all = () => [...this.#own.values(), this.#other];
    const counted = () =>
      all()
        .map((series) => ({ labels: series.labels, line: lineOf(series) }))
        .filter(({ line }) => this.#options.most === 0 || !line.isEmpty);
    const reset = () => {
      for (const series of all()) lineOf(series).reset();
    };
    return { counted, reset };
  }

  /** Series of a metric that follows from others. It cannot be reset without them. */
  derived(read: (series: ModelSeries) => number): SeriesSource<Count> {
    const counted = () =>
      [...this.#own.values(), this.#other].map((series) => {
        const line = new Count();
        line.sum = read(series);
        return { labels: series.labels, line };
      });
    return { counted, reset: () => undefined };
  }

  /** Whether the model has series of its own. */
  has(name: string): boolean {
    return this.#own.has(name);
  }

  /** Returns the series in which the model counts at present. Do not keep them: the model may lose or gain its own. */
  of(name: string): ModelSeries {
    if (name === this.#lastName) return this.#last;
    const series = this.#own.get(name) ?? this.#seriesWithoutPlace(name);
    if (series !== this.#other) {
      this.#lastName = name;
      this.#last = series;
    }
    return series;
  }

  /** Counts a request. */
  requestAccepted(name: string): void {
    let series = this.of(name);
    if (series === this.#other) series = this.#challenge(name);
    series.requests.sum += 1;
    series.uses += 1;
  }

  /** Gives the places to those that are busiest now. */
  review(): void {
    const { most, now } = this.#options;
    const factor = 2 ** ((this.#reviewedAt - now()) / HALF_LIFE_MS);
    this.#reviewedAt = now();
    this.#challengers.decay(factor);
    for (const series of this.#own.values()) {
      series.rate = series.rate * factor + series.uses;
      series.uses = 0;
    }
    this.#dropGone();
    const changes = changesOfPlace([...this.#own.values()], this.#challengers.all, most);
    for (const { gains, loses } of changes) this.#change(gains, loses);
  }

  /** Gives the model a place if one is free. */
  #seriesWithoutPlace(name: string): ModelSeries {
    const { most, isThere } = this.#options;
    const mayHavePlace = this.#own.size < most && name !== OTHER && isThere(name);
    return mayHavePlace ? this.#add(name) : this.#other;
  }

  /** A model without a place is used. It gets a place at once when a holder turns out to be gone. */
  #challenge(name: string): ModelSeries {
    const { most } = this.#options;
    if (most === 0 || name === OTHER) return this.#other;
    this.#untilLook -= 1;
    if (this.#untilLook < 0) {
      this.#untilLook = most - this.#dropGone();
      if (this.#own.size < most) return this.of(name);
    }
    this.#challengers.used(name);
    return this.#other;
  }

  /** @returns the number of models that were dropped. */
  #dropGone(): number {
    const { isThere } = this.#options;
    const gone = [...this.#own.values()].filter(({ name }) => !isThere(name));
    for (const series of gone) this.#remove(series);
    for (const { name } of this.#challengers.all) if (!isThere(name)) this.#challengers.forget(name);
    return gone.length;
  }

  #change(gains: string, loses: string | undefined): void {
    const loser = loses === undefined ? undefined : this.#own.get(loses);
    if (loser !== undefined) this.#remove(loser);
    this.#add(gains);
    if (loser !== undefined) this.#challengers.add(loser.name, loser.rate);
  }

  #add(name: string): ModelSeries {
    const series = new ModelSeries(name, { model: name }, this.#options.seconds);
    series.rate = this.#challengers.forget(name);
    this.#own.set(name, series);
    this.#lastName = undefined;
    return series;
  }

  #remove(series: ModelSeries): void {
    this.#own.delete(series.name);
    series.addTo(this.#other);
    this.#lastName = undefined;
  }
}
