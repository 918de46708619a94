import type { Clock } from '../../common/clock.js';
import { InfermuxError, show, toInfermuxError } from '../../common/errors.js';
import { FailureMemory } from '../../common/failure-memory.js';
import type { ModelName } from '../../contracts/model-reference.js';
import type { RoutedModel } from '../pending-request.js';
import type { ModelQueues } from '../queues/model-queues.js';
import { HeldKeys } from './held-keys.js';
import { LoadTrials, type TryingReplica, type WarmReplicas } from './load-trials.js';

/**
 * Says which models may be loaded now. A model is not loaded for a while when its load ended a thread or took too long,
 * since the next load might do the same; or when it failed on one replica while another replica has the model and goes
 * on serving it. Nor is it loaded by a second replica while it is on trial: see {@link LoadTrials}.
 */
export class LoadBackoff {
  readonly #failures: FailureMemory;
  readonly #queues: ModelQueues;
  readonly #replicas: WarmReplicas;
  readonly #trials: LoadTrials;
  /** Models that a thread is still loading although it was given up. */
  readonly #held = new HeldKeys();

  constructor(queues: ModelQueues, replicas: WarmReplicas, clock: Clock) {
    this.#failures = new FailureMemory(() => clock.now());
    this.#queues = queues;
    this.#replicas = replicas;
    this.#trials = new LoadTrials(queues, replicas);
  }

  /**
   * A replica takes no more requests in the middle of a load of the model.
   *
   * @param crash set when the load ended the replica's thread, or took so long that the replica was given up. Then the
   *   model is not loaded for a while.
   * @param gone resolves when the thread is gone. Until then the model is not loaded again: if its load never ends,
   *   each try would take another thread.
   */
  replicaLeft({ key, id }: ModelName, crash: InfermuxError | undefined, gone: Promise<unknown>): void {
    if (crash === undefined) this.#trials.left(key, gone);
    else {
      this.#failures.record(key, loadFailure(id, crash));
      this.#held.add(key, gone);
    }
    this.loadEnded(key);
  }

  /** The load failed, but another replica has the model. */
  recordFailure({ key }: ModelName, error: InfermuxError): void {
    if (this.#failures.msLeft(key) === 0) this.#failures.record(key, error);
  }

  forget(modelKey: string): void {
    this.#failures.forget(modelKey);
  }

  /** Call it after a load of the model ended, in whatever way. */
  loadEnded(modelKey: string): void {
    this.#trials.loadEnded(modelKey);
  }

  /** Why no replica may load the model now; undefined when one may. */
  loadRefusal(modelKey: string): InfermuxError | undefined {
    return this.#failures.recall(modelKey, this.#held.has(modelKey));
  }

  /** Milliseconds until the model may be loaded again, if by no other replica meanwhile; 0 when it may be loaded now. */
  mayLoadInMs(modelKey: string): number {
    return this.#failures.msLeft(modelKey, this.#held.has(modelKey));
  }

  /** Whether one more replica may load the model now. */
  mayLoad(modelKey: string): boolean {
    return this.mayLoadInMs(modelKey) === 0 && !this.#trials.isOnTrial(modelKey);
  }

  isOnTrial(modelKey: string): boolean {
    return this.#trials.isOnTrial(modelKey);
  }

  /**
   * Begins a load that no request asked for, when it may begin: not while another replica tries the model.
   *
   * @param load orders the load, so that `replica` is trying the model at once.
   * @throws InfermuxError `MODEL_LOAD_FAILED` when the model must not be loaded now; what `load` throws.
   */
  async inTurn<T>(model: RoutedModel, replica: TryingReplica, load: () => Promise<T>): Promise<T> {
    const { key } = model;
    // With a queue it is known later that the model has loaded.
    this.#queues.of(model);
    while (replica.models.get(key) !== 'loaded') {
      const refusal = this.loadRefusal(key);
      if (refusal !== undefined) throw refusal;
      if (replica.isTrying(key) || !this.isOnTrial(key)) break;
      await this.#trials.untilEnd(key);
    }
    try {
      return await load();
    } catch (cause) {
      const error = toInfermuxError(cause);
      // The load may be why the replica was lost.
      throw (error.code === 'REPLICA_FAILED' && this.loadRefusal(key)) || error;
    }
  }

  /** Why no replica can serve the model, if so: none has it, and its last load failed a short while ago. */
  refusal(modelKey: string): InfermuxError | undefined {
    if (!this.#failures.has(modelKey) || this.#replicas.warm(modelKey).length > 0) return undefined;
    return this.loadRefusal(modelKey);
  }
}

/** A load that took too long says so itself. */
function loadFailure(id: string, crash: InfermuxError): InfermuxError {
  const { cause } = crash;
  if (cause instanceof InfermuxError && cause.code === 'MODEL_LOAD_FAILED') return cause;
  const message = `model ${show(id)}: the replica died while loading the model: ${crash.message}`;
  return new InfermuxError('MODEL_LOAD_FAILED', message, { cause: crash });
}
