import type { MetricsSource } from './metrics-source.js';
import type { ScrapeTurns } from './registry/scrape-turns.js';

export interface Census {
  /** Loaded sessions, and the bytes of their model files, by format. */
  readonly loaded: ReadonlyMap<string, { models: number; bytes: number }>;
  /** Sessions that are loading, by format. */
  readonly loading: ReadonlyMap<string, number>;
  /** Sessions that are loaded or loading, by replica and by the model's label. */
  readonly held: ReadonlyMap<string, ReadonlyMap<string, number>>;
}

const TYPES: readonly string[] = ['onnx', 'ort', 'handler'];

/** Counts the sessions of all replicas, once for each scrape, and goes on with other work in between. */
export class SessionCensus {
  readonly #source: MetricsSource;
  readonly #labelOf: (model: string) => string;
  readonly #turns: ScrapeTurns;
  #census: Promise<Census> | undefined;

  /** @param labelOf returns the label of a model. */
  constructor(source: MetricsSource, labelOf: (model: string) => string, turns: ScrapeTurns) {
    this.#source = source;
    this.#labelOf = labelOf;
    this.#turns = turns;
  }

  /** The next {@link take} counts anew. */
  scrapeBegins(): void {
    this.#census = undefined;
  }

  take(): Promise<Census> {
    this.#census ??= this.#count();
    return this.#census;
  }

  /** Adds up what is said of models, by their labels. */
  byLabel(models: Iterable<readonly [model: string, count: number]>): Map<string, number> {
    const sums = new Map<string, number>();
    for (const [model, count] of models) {
      const label = this.#labelOf(model);
      sums.set(label, (sums.get(label) ?? 0) + count);
    }
    return sums;
  }

  async #count(): Promise<Census> {
    const loaded = new Map(TYPES.map((type) => [type, { models: 0, bytes: 0 }]));
    const loading = new Map(TYPES.map((type) => [type, 0]));
    const held = new Map<string, Map<string, number>>();
    await this.#turns.forEach(this.#source.sessions(), ({ replica, model, type, bytes, isLoaded }) => {
      const sum = isLoaded ? loaded.get(type) : undefined;
      if (!isLoaded) loading.set(type, (loading.get(type) ?? 0) + 1);
      if (sum !== undefined) {
        sum.models += 1;
        sum.bytes += bytes;
      }
      const ofReplica = held.get(replica) ?? new Map<string, number>();
      held.set(replica, ofReplica);
      const label = this.#labelOf(model);
      ofReplica.set(label, (ofReplica.get(label) ?? 0) + 1);
    });
    return { loaded, loading, held };
  }
}
