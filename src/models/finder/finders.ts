import type { ResolvedFinder } from './finder.js';

/** The engine's finder, and those that were registered for one model each. */
export class Finders {
  /** Undefined when the options name none. */
  readonly engine: ResolvedFinder | undefined;
  readonly #own = new Map<string, ResolvedFinder>();

  constructor(engine: ResolvedFinder | undefined) {
    this.engine = engine;
  }

  /** The finder that is asked for the model; undefined when there is none. */
  of(id: string): ResolvedFinder | undefined {
    return this.#own.get(id) ?? this.engine;
  }

  /** Whether the model has a finder of its own. */
  has(id: string): boolean {
    return this.#own.has(id);
  }

  set(id: string, finder: ResolvedFinder): void {
    this.#own.set(id, finder);
  }

  delete(id: string): boolean {
    return this.#own.delete(id);
  }
}
