import type { Batching } from '../../contracts/batching.js';
import type { RoutedModel } from '../pending-request.js';
import { ModelQueue } from './model-queue.js';

/** The queues of all models. A queue is created when its model is first needed. */
export class ModelQueues {
  readonly #queues = new Map<string, ModelQueue>();
  #batching: Batching;

  /** @param batching setting for models without one of their own. */
  constructor(batching: Batching) {
    this.#batching = batching;
  }

  configure(batching: Batching): void {
    this.#batching = batching;
    for (const queue of this.#queues.values()) queue.configure(batching);
  }

  find(modelKey: string): ModelQueue | undefined {
    return this.#queues.get(modelKey);
  }

  of(model: RoutedModel): ModelQueue {
    let queue = this.#queues.get(model.key);
    if (queue === undefined) {
      queue = new ModelQueue(model, this.#batching);
      this.#queues.set(model.key, queue);
    }
    return queue;
  }

  delete(modelKey: string): void {
    this.#queues.delete(modelKey);
  }
}
