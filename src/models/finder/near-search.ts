import { FailureMemory } from '../../common/failure-memory.js';
import { Slots } from '../../common/slots.js';
import type { ModelCatalog } from '../model-catalog.js';
import type { RegisteredModel } from '../registered-model.js';
import { type Target, targetOf } from './target.js';

/** Models that lie near, in a directory, where a look costs little. */
export interface NearModels {
  /** Whether a look may find the model. */
  mayHave(target: Target): boolean;
  /** Puts it into the catalog, if it is there. @throws InfermuxError when nothing can be seen. */
  look(id: string): Promise<void>;
}

const MOST_LOOKS = 16;
/** What is not near is not looked for again for so long. */
const MISSED_MS = 1_000;

/** Looks for models where it costs little. */
export class NearSearch {
  readonly #near: NearModels;
  readonly #catalog: ModelCatalog;
  readonly #misses: FailureMemory;
  readonly #looks = new Slots(MOST_LOOKS);

  /** @param now returns milliseconds from any start. */
  constructor(near: NearModels, catalog: ModelCatalog, now: () => number) {
    this.#near = near;
    this.#catalog = catalog;
    this.#misses = new FailureMemory(now, MISSED_MS);
  }

  /** Whether a look may find the model. */
  mayHave(target: Target): boolean {
    return this.#near.mayHave(target);
  }

  /** Why the model is not looked for now: it was missed a short while ago. */
  recall(target: string) {
    return this.#misses.recall(target);
  }

  /** @throws InfermuxError when nothing can be seen; the reason of the signal. */
  async look(target: string, signal: AbortSignal): Promise<RegisteredModel | undefined> {
    const named = targetOf(target) as Target;
    if (this.#near.mayHave(named)) await this.#looks.run(signal, () => this.#near.look(named.id));
    signal.throwIfAborted();
    const model = this.#catalog.find(target);
    return model !== undefined && this.#catalog.ownerOf(named.id) !== 'finder' ? model : undefined;
  }

  /** Nobody else can be asked. @returns why there is none. */
  missed(target: string) {
    const error = this.#catalog.whyNot(target);
    this.#misses.record(target, error);
    return error;
  }

  forget(target: string): void {
    this.#misses.forget(target);
  }
}
