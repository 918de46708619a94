import { DenseSet } from '../../common/dense-set.js';
import { IndexedHeap } from '../../common/indexed-heap.js';
import { isNested } from '../pending-request.js';
import type { Eligibility } from './eligibility.js';
import { isQueueBefore, type ModelQueue } from './model-queue.js';

/** Whether the left queue comes first. */
export type QueueOrder = (left: ModelQueue, right: ModelQueue) => boolean;

/** The queues with waiting requests, among which a replica with a free slot finds the one whose turn it is. */
export class WaitingModels {
  readonly #queues = new DenseSet<ModelQueue>();
  /** Queues that have ever waited, by model key. */
  readonly #known = new Map<string, ModelQueue>();
  readonly #anywhere = new IndexedHeap<ModelQueue>(isQueueBefore);
  readonly #spilling = new DenseSet<ModelQueue>();
  /** The queues that wait for a replica, in the order that {@link orderBy} was told. */
  #ordered: IndexedHeap<ModelQueue> | undefined;
  #isBefore: QueueOrder = isQueueBefore;
  /** Waiting queues whose first request has lost a replica. */
  readonly #retried = new DenseSet<ModelQueue>();

  /** Has `first` and `second` answer in this order from now on; undefined while nobody asks them. */
  orderBy(isBefore: QueueOrder | undefined): void {
    this.#isBefore = isBefore ?? isQueueBefore;
    this.#ordered = isBefore && new IndexedHeap(isBefore);
    for (const queue of this.#queues.items) if (!queue.isGathering) this.#ordered?.set(queue);
  }

  /** Call it whenever the queue's head or eligibility changed. */
  put(queue: ModelQueue, eligibility: Eligibility): void {
    this.#known.set(queue.modelKey, queue);
    this.#queues.add(queue);
    if (queue.isRetrying) this.#retried.add(queue);
    else this.#retried.remove(queue);
    if (eligibility === 'anywhere') this.#anywhere.set(queue);
    else this.#anywhere.delete(queue);
    if (eligibility === 'spilling') this.#spilling.add(queue);
    else this.#spilling.remove(queue);
    if (eligibility !== 'gathering' && eligibility !== 'trying') this.#ordered?.set(queue);
    else this.#ordered?.delete(queue);
  }

  /** Call it when the turn or the place of a queue changed that may be waiting. */
  turnChanged(queue: ModelQueue): void {
    if (this.#anywhere.has(queue)) this.#anywhere.set(queue);
    if (this.#ordered?.has(queue)) this.#ordered.set(queue);
  }

  delete(queue: ModelQueue): void {
    this.#queues.remove(queue);
    this.#retried.remove(queue);
    this.#anywhere.delete(queue);
    this.#spilling.remove(queue);
    this.#ordered?.delete(queue);
  }

  /** The queue will not be put again. */
  forget(queue: ModelQueue): void {
    this.delete(queue);
    this.#queues.delete(queue);
    this.#retried.delete(queue);
    this.#spilling.delete(queue);
    this.#known.delete(queue.modelKey);
  }

  all(): ModelQueue[] {
    return [...this.#queues.items];
  }

  /** Queues with requests that handlers have made. */
  nested(): ModelQueue[] {
    return this.#queues.items.filter(({ head }) => head !== undefined && isNested(head));
  }

  /** The first queue that waits for a replica; with `may`, the first one that passes it. */
  first(may?: (queue: ModelQueue) => boolean): ModelQueue | undefined {
    let first = this.#ordered?.peek();
    if (may === undefined || first === undefined || may(first)) return first;
    first = undefined;
    for (const queue of this.#queues.items) {
      if (!queue.isGathering && (first === undefined || this.#isBefore(queue, first)) && may(queue)) first = queue;
    }
    return first;
  }

  /** The queue after the first one. */
  get second(): ModelQueue | undefined {
    return this.#ordered?.peekSecond();
  }

  get firstAnywhere(): ModelQueue | undefined {
    return this.#anywhere.peek();
  }

  /** The first queue of those that may be worth another load, and pass this. */
  firstSpilling(may: (queue: ModelQueue) => boolean): ModelQueue | undefined {
    let first: ModelQueue | undefined;
    for (const queue of this.#spilling.items) {
      if ((first === undefined || isQueueBefore(queue, first)) && may(queue)) first = queue;
    }
    return first;
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
