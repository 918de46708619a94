import { ExpectedTimes } from './expected-times.js';
import { IndexedHeap } from './indexed-heap.js';
import { isBefore, type PendingRequest, type RoutedModel } from './pending-request.js';

/** The requests that wait for one model: by priority, then in order of arrival. */
export class ModelQueue {
  readonly modelId: string;
  readonly modelKey: string;
  readonly times: ExpectedTimes;
  readonly #requests = new IndexedHeap<PendingRequest>(isBefore);
  /** Set while a timer runs that ends the wait for warm replicas. */
  spillTimer: { readonly at: number; readonly cancel: () => void } | undefined;

  constructor(model: RoutedModel) {
    this.modelId = model.id;
    this.modelKey = model.key;
    this.times = new ExpectedTimes(model.bytes);
  }

  get head(): PendingRequest | undefined {
    return this.#requests.peek();
  }

  /** Time of the clock at which the request was accepted that waits longest. */
  get waitingSince(): number | undefined {
    return this.#requests.firstAdded?.acceptedAt;
  }

  add(request: PendingRequest): void {
    this.#requests.set(request);
    request.isWaiting = true;
  }

  take(): PendingRequest | undefined {
    const request = this.#requests.pop();
    if (request !== undefined) request.isWaiting = false;
    return request;
  }

  /** @returns false when the request does not wait here. */
  remove(request: PendingRequest): boolean {
    request.isWaiting = false;
    return this.#requests.delete(request);
  }
}

/** The queue whose head comes first; an empty one comes last. */
export function isQueueBefore(left: ModelQueue, right: ModelQueue): boolean {
  if (left.head === undefined) return false;
  return right.head === undefined || isBefore(left.head, right.head);
}
