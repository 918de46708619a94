import { type Batching, type BatchingPolicy, batchingPolicy } from '../../contracts/batching.js';
import type { RoutedModel } from '../pending-request.js';
import { ModelQueue } from './model-queue.js';

/** The queues of all models. A queue is created when its model is first needed. */
export class ModelQueues {
  readonly #queues = new Map<string, ModelQueue>();
  #batching: Batching;
  #handled: 'requests' | 'batches' | undefined;

  /** @param batching setting for models without one of their own. */
  constructor(batching: Batching) {
    this.#batching = batching;
  }

  configure(batching: Batching): void {
    this.#batching = batching;
    for (const queue of this.#queues.values()) queue.configure(batching);
  }

  /** The requests are a handler's. @param takes what the handler takes in one call. */
  setHandled(takes: 'requests' | 'batches'): void {
    if (takes === this.#handled) return;
    this.#handled = takes;
    for (const { batching } of this.#queues.values()) batching.setHandled(takes);
  }

  /** How requests for the model are joined. */
  policyOf({ batching }: RoutedModel): BatchingPolicy {
    return batchingPolicy(this.#batching, batching);
  }

  find(modelKey: string): ModelQueue | undefined {
    return this.#queues.get(modelKey);
  }

  of(model: RoutedModel): ModelQueue {
    let queue = this.#queues.get(model.key);
    if (queue === undefined) {
      queue = new ModelQueue(model, this.#batching);
      if (this.#handled !== undefined) queue.batching.setHandled(this.#handled);
      this.#queues.set(model.key, queue);
    }
    return queue;
  }

  *counts(): Iterable<{ readonly model: RoutedModel; readonly queued: number; readonly failed: number }> {
    for (const { model, size: queued, failed } of this.#queues.values()) yield { model, queued, failed };
  }

  delete(modelKey: string): void {
    this.#queues.delete(modelKey);
  }
}
