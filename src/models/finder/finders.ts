import type { ModelFinder, ResolvedFinder } from './finder.js';

/** The engine's finder, and those that were registered for one model each. */
export class Finders {
  /** Undefined when the options name none. */
  readonly engine: ResolvedFinder | undefined;
  readonly #own = new Map<string, { readonly given: ModelFinder; readonly finder: ResolvedFinder }>();

  constructor(engine: ResolvedFinder | undefined) {
    this.engine = engine;
  }

  /** The finder that is asked for the model; undefined when there is none. */
  of(id: string): ResolvedFinder | undefined {
    return this.#own.get(id)?.finder ?? this.engine;
  }

  /** Whether the model has a finder of its own. */
  has(id: string): boolean {
    return this.#own.has(id);
  }

  /** The finder that was registered for the model. */
  given(id: string): ModelFinder | undefined {
    return this.#own.get(id)?.given;
  }

  /** Ids of models with finders of their own. */
  get ids(): string[] {
    return [...this.#own.keys()];
  }

  set(id: string, given: ModelFinder, finder: ResolvedFinder): void {
    this.#own.set(id, { given, finder });
  }

  delete(id: string): boolean {
    return this.#own.delete(id);
  }
}
