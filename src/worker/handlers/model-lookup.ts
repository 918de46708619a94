import { fromErrorRecord } from '../../common/values/error-record.js';
import type { DefinedModel, DefineMessage } from '../../protocol/messages.js';
import type { ReplicaCounters } from '../../protocol/queue-counters.js';

/**
 * Finds the model that a handler means by an id. The calling thread knows; it is asked once for each id, until the
 * catalog changes, when an id may stand for another model.
 */
export class ModelLookup {
  readonly #counters: Pick<ReplicaCounters, 'catalogRevision'>;
  readonly #ask: (wanted: number, target: string) => void;
  readonly #known = new Map<string, DefinedModel>();
  readonly #asked = new Map<number, (message: DefineMessage) => void>();
  #revision: number;
  #lastWanted = 0;

  constructor(counters: Pick<ReplicaCounters, 'catalogRevision'>, ask: (wanted: number, target: string) => void) {
    this.#counters = counters;
    this.#ask = ask;
    this.#revision = counters.catalogRevision;
  }

  /** @throws InfermuxError the calling thread's answer about a target that it does not know. */
  async resolve(target: string): Promise<DefinedModel> {
    const revision = this.#counters.catalogRevision;
    if (revision !== this.#revision) {
      this.#revision = revision;
      this.#known.clear();
    }
    const known = this.#known.get(target);
    if (known !== undefined) return known;
    this.#lastWanted += 1;
    const wanted = this.#lastWanted;
    const { model } = await new Promise<DefineMessage>((resolve) => {
      this.#asked.set(wanted, resolve);
      this.#ask(wanted, target);
    });
    if ('error' in model) throw fromErrorRecord(model.error);
    // An answer from before the last change is right for this request, but must not be kept.
    if (revision === this.#counters.catalogRevision) this.#known.set(target, model.value);
    return model.value;
  }

  defined(message: DefineMessage): void {
    this.#asked.get(message.wanted)?.(message);
    this.#asked.delete(message.wanted);
  }
}
