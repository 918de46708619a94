import type { MetricsRegistration } from './registry/metrics-registration.js';

/** Counts what is looked for with a finder. */
export class SearchMetrics {
  readonly #searches: ReturnType<MetricsRegistration['counter']>;
  readonly #duration: ReturnType<ReturnType<MetricsRegistration['histogram']>['at']>;
  readonly #bytes: ReturnType<ReturnType<MetricsRegistration['counter']>['at']>;

  /** @param seconds bounds of the buckets. */
  constructor(metrics: MetricsRegistration, seconds: readonly number[]) {
    this.#searches = metrics.counter('model_searches_total', 'Searches for models by a finder, by outcome.', [
      'outcome',
    ]);
    this.#duration = metrics
      .histogram(
        'model_search_duration_seconds',
        'Time of a search for a model by a finder, including downloads.',
        [],
        seconds,
      )
      .at();
    this.#bytes = metrics.counter('model_download_bytes_total', 'Downloaded bytes of models.', []).at();
  }

  searched(outcome: string, milliseconds: number): void {
    this.#searches.at(outcome).sum += 1;
    this.#duration.observe(milliseconds / 1_000);
  }

  received(bytes: number): void {
    this.#bytes.sum += bytes;
  }
}
