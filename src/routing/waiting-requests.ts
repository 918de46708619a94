import { cloneError, type InfermuxError } from '../common/errors.js';
import type { PendingRequest } from './pending-request.js';
import type { AcceptedRequests } from './queues/accepted-requests.js';
import type { ModelQueue } from './queues/model-queue.js';
import type { ModelQueues } from './queues/model-queues.js';
import type { QueueLimit } from './queues/queue-limit.js';

/** The part of the placement that hears of queues from which requests were taken. */
interface Placement {
  waiting(): Iterable<ModelQueue>;
  left(queue: ModelQueue): void;
}

/** Takes requests out of their queues that no replica is given. */
export class WaitingRequests {
  readonly #queues: ModelQueues;
  readonly #accepted: AcceptedRequests;
  readonly #limit: QueueLimit;
  readonly #placement: Placement;

  constructor(queues: ModelQueues, accepted: AcceptedRequests, limit: QueueLimit, placement: Placement) {
    this.#queues = queues;
    this.#accepted = accepted;
    this.#limit = limit;
    this.#placement = placement;
  }

  /** Empties the queue. */
  take(queue: ModelQueue, taken: (pending: PendingRequest) => void): void {
    for (let pending = queue.take(); pending !== undefined; pending = queue.take()) {
      this.#limit.left(pending);
      taken(pending);
    }
  }

  rejectAll(error: InfermuxError): void {
    for (const queue of this.#placement.waiting()) this.#reject(queue, () => cloneError(error));
  }

  rejectOf(modelKey: string, errorOf: (pending: PendingRequest) => InfermuxError): void {
    const queue = this.#queues.find(modelKey);
    if (queue !== undefined) this.#reject(queue, errorOf);
  }

  /** The request is over. The next one of its queue may then go where it could not before. */
  leave(pending: PendingRequest): void {
    const queue = this.#queues.find(pending.model.key);
    if (queue?.remove(pending) !== true) return;
    this.#limit.left(pending);
    this.#placement.left(queue);
  }

  #reject(queue: ModelQueue, errorOf: (pending: PendingRequest) => InfermuxError): void {
    this.take(queue, (pending) => this.#accepted.reject(pending, () => errorOf(pending)));
    this.#placement.left(queue);
  }
}
