import type { Clock } from '../clock.js';
import { InfermuxError, show } from '../errors.js';
import { FailureMemory } from '../failure-memory.js';
import type { RoutedModel } from './pending-request.js';

/** Models whose load ended a thread, and might end the next one too: for a while they are not loaded again. */
export class FatalLoads {
  readonly #failures: FailureMemory;
  readonly #hasModel: (modelKey: string) => boolean;

  /** @param hasModel whether a replica has the model, so that it needs no load. */
  constructor(clock: Clock, hasModel: (modelKey: string) => boolean) {
    this.#failures = new FailureMemory(() => clock.now());
    this.#hasModel = hasModel;
  }

  record({ key, id }: RoutedModel, crash: InfermuxError): void {
    const message = `model ${show(id)}: the replica died while it loaded it: ${crash.message}`;
    this.#failures.record(key, new InfermuxError('MODEL_LOAD_FAILED', message, { cause: crash }));
  }

  forget(modelKey: string): void {
    this.#failures.forget(modelKey);
  }

  /** Milliseconds until the model may be loaded again; 0 when it may be. */
  mayLoadInMs(modelKey: string): number {
    return this.#failures.recall(modelKey)?.retryAfterMs ?? 0;
  }

  /** Why the model can be had from no replica, if so: none has it, and its load ended one a short while ago. */
  refusal(modelKey: string): InfermuxError | undefined {
    if (!this.#failures.has(modelKey) || this.#hasModel(modelKey)) return undefined;
    return this.#failures.recall(modelKey);
  }
}
