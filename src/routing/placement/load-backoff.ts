import type { Clock } from '../../common/clock.js';
import { InfermuxError, show } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import type { RoutedModel } from '../pending-request.js';

/**
 * Models that are not loaded for a while. Their load ended a thread, and might end the next one too; or it failed on
 * one replica while another replica has the model and goes on serving it.
 */
export class LoadBackoff {
  readonly #failures: FailureMemory;
  readonly #hasModel: (modelKey: string) => boolean;

  /** @param hasModel whether a replica has the model, so that it needs no load. */
  constructor(clock: Clock, hasModel: (modelKey: string) => boolean) {
    this.#failures = new FailureMemory(() => clock.now());
    this.#hasModel = hasModel;
  }

  /** The load ended a thread. */
  recordCrash({ key, id }: RoutedModel, crash: InfermuxError): void {
    const message = `model ${show(id)}: the replica died while loading the model: ${crash.message}`;
    this.#failures.record(key, new InfermuxError('MODEL_LOAD_FAILED', message, { cause: crash }));
  }

  /** The load failed, but another replica has the model. */
  recordFailure({ key }: RoutedModel, error: InfermuxError): void {
    if (this.#failures.recall(key) === undefined) this.#failures.record(key, error);
  }

  forget(modelKey: string): void {
    this.#failures.forget(modelKey);
  }

  /** Why no replica may load the model now; undefined when one may. */
  loadRefusal(modelKey: string): InfermuxError | undefined {
    return this.#failures.recall(modelKey);
  }

  /** Milliseconds until the model may be loaded again; 0 when it may be loaded now. */
  mayLoadInMs(modelKey: string): number {
    return this.loadRefusal(modelKey)?.retryAfterMs ?? 0;
  }

  mayLoad(modelKey: string): boolean {
    return this.mayLoadInMs(modelKey) === 0;
  }

  /** Why no replica can serve the model, if so: none has it, and its last load failed a short while ago. */
  refusal(modelKey: string): InfermuxError | undefined {
    if (!this.#failures.has(modelKey) || this.#hasModel(modelKey)) return undefined;
    return this.#failures.recall(modelKey);
  }
}
