import type { Clock } from '../../common/clock.js';
import { InfermuxError, show, toInfermuxError } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import type { ModelLoader, Replacement } from '../model-loader.js';
import type { RegisteredModel } from '../registered-model.js';

/** Why a model is not served. */
export interface TrialFailure {
  readonly error: InfermuxError;
  /** Whether the error is final until its files change. */
  readonly isSettled: boolean;
}

/** Shows whether models load before they are served. */
export class ModelTrials {
  readonly #loader: ModelLoader;
  readonly #failures: FailureMemory;

  constructor(loader: ModelLoader, clock: Clock) {
    this.#loader = loader;
    this.#failures = new FailureMemory(() => clock.now());
  }

  /** @param old the model whose place it takes, if it does. */
  async whyNotServed(
    old: RegisteredModel | undefined,
    model: RegisteredModel,
    how: Replacement,
  ): Promise<TrialFailure | undefined> {
    const remembered = this.#failures.recall(model.key);
    if (remembered !== undefined) return { error: remembered, isSettled: true };
    try {
      await this.#loader.replace(old, model, how);
      this.#failures.forget(model.key);
      return undefined;
    } catch (cause) {
      const error = toInfermuxError(cause);
      if (isPassing(error)) return { error: notTried(old, model, error), isSettled: false };
      this.#failures.record(model.key, error);
      return { error, isSettled: true };
    }
  }

  forget(key: string): void {
    this.#failures.forget(key);
  }
}

/** Whether the error says nothing about the model: the system, the replicas or the engine could not do their part. */
export function isPassing({ code, retryable }: InfermuxError): boolean {
  return retryable || code === 'REPLICA_FAILED' || code === 'ENGINE_CLOSED';
}

function notTried(
  old: RegisteredModel | undefined,
  { id, version }: RegisteredModel,
  cause: InfermuxError,
): InfermuxError {
  const so = old === undefined ? 'it is not served' : 'what was served before stays';
  const message = `model ${show(id)}: version ${version} could not be tried, so ${so}: ${cause.message}`;
  const { code, retryable, retryAfterMs } = cause;
  return new InfermuxError(code, message, { cause, retryable, retryAfterMs });
}
