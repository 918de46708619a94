import { InfermuxError } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import { Slots } from '../../common/tasks/slots.js';
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
/** Callers may ask for any number of models: beyond so many they are not looked for, and wait in no queue. */
const MOST_UNDER_WAY = 64;
/** What is not near is not looked for again for so long. */
const MISSED_MS = 1_000;

/** Looks for models where it costs little. */
export class NearSearch {
  readonly #near: NearModels;
  readonly #catalog: ModelCatalog;
  readonly #misses: FailureMemory;
  readonly #looks = new Slots(MOST_LOOKS);
  /** Looks that are under way, or wait for their turn. */
  #under = 0;

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

  /** Why the model is not looked for now: it was missed a short while ago, or too many others are looked for. */
  refusalOf(target: string): InfermuxError | undefined {
    const missed = this.#misses.recall(target);
    if (missed !== undefined || this.#under < MOST_UNDER_WAY) return missed;
    const { message } = this.#catalog.whyNot(target);
    const terms = { retryable: true, retryAfterMs: MISSED_MS };
    return new InfermuxError(
      'MODEL_NOT_FOUND',
      `${message}; too many others are looked for to look for this one`,
      terms,
    );
  }

  /**
   * Looks for the model, unless it was missed a short while ago.
   *
   * @returns undefined when it is not there. @throws InfermuxError when nothing can be seen; the reason of the signal.
   */
  async look(target: string, signal: AbortSignal): Promise<RegisteredModel | undefined> {
    const named = targetOf(target) as Target;
    if (this.#near.mayHave(named) && this.#misses.recall(target) === undefined) {
      this.#under += 1;
      try {
        await this.#looks.run(signal, () => this.#near.look(named.id));
      } finally {
        this.#under -= 1;
      }
    }
    signal.throwIfAborted();
    const model = this.#catalog.find(target);
    if (model !== undefined && this.#catalog.ownerOf(named.id) !== 'finder') return model;
    this.#misses.record(target, this.#catalog.whyNot(target));
    return undefined;
  }

  /** Forgets what was missed under names of the id. */
  forget(id: string): void {
    this.#misses.forgetThose((target) => targetOf(target)?.id === id);
  }
}
