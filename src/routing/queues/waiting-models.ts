import { DenseSet } from '../../common/dense-set.js';
import { IndexedHeap } from '../../common/indexed-heap.js';
import type { Eligibility } from './eligibility.js';
import { isQueueBefore, type ModelQueue } from './model-queue.js';

/** The queues with waiting requests, among which a replica with a free slot finds the one whose turn it is. */
export class WaitingModels {
  readonly #queues = new DenseSet<ModelQueue>();
  /** Queues that have ever waited, by model key. */
  readonly #known = new Map<string, ModelQueue>();
  readonly #anywhere = new IndexedHeap<ModelQueue>(isQueueBefore);
  readonly #spilling = new IndexedHeap<ModelQueue>(isQueueBefore);
  /** Waiting queues whose first request has lost a replica. */
  readonly #retried = new DenseSet<ModelQueue>();

  /** Call it whenever the queue's head or eligibility changed. */
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

  /** Call it when the turn of a queue changed that may be waiting. */
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

  /** The queue will not be put again. */
  forget(queue: ModelQueue): void {
    this.delete(queue);
    this.#queues.delete(queue);
    this.#retried.delete(queue);
    this.#known.delete(queue.modelKey);
  }

  all(): ModelQueue[] {
    return [...this.#queues.items];
  }

  /** The first queue in this order that waits for a replica and passes `may`. */
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

  /** Whether one of the models has a waiting queue whose first request has lost a replica. */
  isRetryingAny(models: ReadonlyMap<string, unknown>): boolean {
    const { items } = this.#retried;
    return items.length > 0 && items.some(({ modelKey }) => models.has(modelKey));
  }

  /** Yields the waiting queues of the given models; walks whichever are fewer, the models or the queues. */
  *among(models: ReadonlyMap<string, unknown>): IterableIterator<ModelQueue> {
    if (models.size <= this.#queues.items.length) {
      for (const modelKey of models.keys()) {
        const queue = this.#known.get(modelKey);
        // Checked first, because most queues are empty.
        if (queue !== undefined && queue.size > 0 && this.#queues.has(queue)) yield queue;
      }
    } else {
      for (const queue of this.#queues.items) {
        if (models.has(queue.modelKey)) yield queue;
      }
    }
  }
}
