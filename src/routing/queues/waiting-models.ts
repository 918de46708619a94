import { DenseSet } from '../../common/dense-set.js';
import { IndexedHeap } from '../../common/indexed-heap.js';
import type { Eligibility } from './eligibility.js';
import { isQueueBefore, type ModelQueue } from './model-queue.js';

/** The models with waiting requests, so that a replica with a free slot finds the one whose turn it is. */
export class WaitingModels {
  readonly #queues = new DenseSet<ModelQueue>();
  /** Those that ever waited. */
  readonly #known = new Map<string, ModelQueue>();
  readonly #anywhere = new IndexedHeap<ModelQueue>(isQueueBefore);
  readonly #spilling = new IndexedHeap<ModelQueue>(isQueueBefore);
  /** Those whose first request has lost a replica. */
  readonly #retried = new DenseSet<ModelQueue>();

  /** To be called whenever the queue's head or eligibility changed. */
  put(queue: ModelQueue, eligibility: Eligibility): void {
    this.#known.set(queue.modelKey, queue);
    this.#queues.add(queue);
    if (queue.isRetrying) this.#retried.add(queue);
    else this.#retried.remove(queue);
    if (eligibility === 'anywhere') this.#anywhere.set(queue);
    else this.#anywhere.delete(queue);
    if (eligibility === 'spilling') this.#spilling.set(queue);
    else this.#spilling.delete(queue);
  }

  /** To be called when the queue's turn changed, if it may be waiting. */
  turnChanged(queue: ModelQueue): void {
    if (this.#anywhere.has(queue)) this.#anywhere.set(queue);
    if (this.#spilling.has(queue)) this.#spilling.set(queue);
  }

  delete(queue: ModelQueue): void {
    this.#queues.remove(queue);
    this.#retried.remove(queue);
    this.#anywhere.delete(queue);
    this.#spilling.delete(queue);
  }

  /** It will not be put again. */
  forget(queue: ModelQueue): void {
    this.delete(queue);
    this.#queues.delete(queue);
    this.#retried.delete(queue);
    this.#known.delete(queue.modelKey);
  }

  all(): ModelQueue[] {
    return [...this.#queues.items];
  }

  /** The first in this order of those that wait for a replica and that may be. */
  first(
    isBefore: (left: ModelQueue, right: ModelQueue) => boolean,
    may: (queue: ModelQueue) => boolean,
  ): ModelQueue | undefined {
    let first: ModelQueue | undefined;
    for (const queue of this.#queues.items) {
      if (!queue.isGathering && (first === undefined || isBefore(queue, first)) && may(queue)) first = queue;
    }
    return first;
  }

  get firstAnywhere(): ModelQueue | undefined {
    return this.#anywhere.peek();
  }

  get firstSpilling(): ModelQueue | undefined {
    return this.#spilling.peek();
  }

  /** Whether the first request for one of the models has lost a replica. */
  isRetryingAny(models: ReadonlyMap<string, unknown>): boolean {
    const { items } = this.#retried;
    return items.length > 0 && items.some(({ modelKey }) => models.has(modelKey));
  }

  /** The queues among the given models that wait for a replica; walks whichever is fewer. */
  *among(models: ReadonlyMap<string, unknown>): IterableIterator<ModelQueue> {
    if (models.size <= this.#queues.items.length) {
      for (const modelKey of models.keys()) {
        const queue = this.#known.get(modelKey);
        // Most have nothing that waits.
        if (queue !== undefined && queue.size > 0 && this.#queues.has(queue)) yield queue;
      }
    } else {
      for (const queue of this.#queues.items) {
        if (models.has(queue.modelKey)) yield queue;
      }
    }
  }
}
