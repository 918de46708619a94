import { type Batching, batchingPolicy } from '../../contracts/batching.js';
import { commonRows } from '../../tensors/tensor.js';
import { ModelBatching } from '../batches/model-batching.js';
import { ExpectedTimes } from '../estimates/expected-times.js';
import type { PendingRequest, RoutedModel } from '../pending-request.js';

/** The requests of one priority, linked in order of arrival. */
interface Level {
  readonly priority: number;
  first: PendingRequest | undefined;
  last: PendingRequest | undefined;
}

/** The requests that wait for one model: by priority, then in order of arrival. */
export class ModelQueue {
  readonly model: RoutedModel;
  readonly times: ExpectedTimes;
  readonly batching: ModelBatching;
  /** Highest priority first; none is empty. */
  readonly #levels: Level[] = [];
  #size = 0;
  #rows = 0;
  /** Requests that have a deadline. */
  #deadlines = 0;
  /**
   * Sequence number of the first request to arrive after the model was last served. Requests of other models that
   * waited by then go first: so a model with many waiting requests, or with long runs, holds up another by one run, not
   * by all of them.
   */
  servedAt = 0;
  /** Clock time at which requests were last given to a replica. */
  lastGivenAt = Number.NEGATIVE_INFINITY;
  /** Whether the model has ever loaded here. */
  hasLoaded = false;
  /** Clock time until which its requests wait for company; undefined when they do not. */
  gathersUntil: number | undefined;
  /** The timer after which the queue is placed again, while one runs. */
  timer: { readonly at: number; readonly cancel: () => void } | undefined;

  /** @param batching the setting for a model without its own. */
  constructor(model: RoutedModel, batching: Batching) {
    this.model = model;
    this.times = new ExpectedTimes(model.bytes);
    this.batching = new ModelBatching(batchingPolicy(batching, model.batching));
  }

  /** @param batching the setting for a model without its own. */
  configure(batching: Batching): void {
    this.batching.configure(batchingPolicy(batching, this.model.batching));
    // Rows and deadlines are only kept for models whose requests gather.
    this.#rows = 0;
    this.#deadlines = 0;
    if (!this.batching.mayGather) return;
    for (const { first } of this.#levels) {
      for (let request = first; request !== undefined; request = request.next) this.#count(request, 1);
    }
  }

  get modelKey(): string {
    return this.model.key;
  }

  get isGathering(): boolean {
    return this.gathersUntil !== undefined;
  }

  /** Whether its first request has lost a replica. */
  get isRetrying(): boolean {
    return (this.head?.attempts ?? 0) > 0;
  }

  get size(): number {
    return this.#size;
  }

  /** Rows along axis 0 of all requests, at least one for each. Kept only for models whose requests gather. */
  get rows(): number {
    return this.#rows;
  }

  get head(): PendingRequest | undefined {
    return this.#levels[0]?.first;
  }

  /** The request that comes after this one. This one must be in the queue. */
  after({ priority, next }: PendingRequest): PendingRequest | undefined {
    return next ?? this.#levels.find((level) => level.priority < priority)?.first;
  }

  /** Clock time at which the longest waiting request was accepted. */
  get waitingSince(): number | undefined {
    let since: number | undefined;
    for (const { first } of this.#levels) {
      if (first !== undefined && (since === undefined || first.acceptedAt < since)) since = first.acceptedAt;
    }
    return since;
  }

  /** Milliseconds that the longest waiting request has waited by `now`; 0 when none waits. */
  waitedMs(now: number): number {
    return now - (this.waitingSince ?? now);
  }

  /**
   * Clock time until which the requests may wait for company: each for `maxWaitMs`, but no longer than half of the time
   * to its deadline.
   */
  patientUntil(maxWaitMs: number): number {
    let until = (this.waitingSince ?? Number.NEGATIVE_INFINITY) + maxWaitMs;
    if (this.#deadlines === 0) return until;
    for (const { first } of this.#levels) {
      for (let request = first; request !== undefined; request = request.next) {
        const { acceptedAt, deadline } = request;
        if (deadline !== undefined) until = Math.min(until, (acceptedAt + deadline) / 2);
      }
    }
    return until;
  }

  add(request: PendingRequest): void {
    const level = this.#levelOf(request.priority);
    // A request that comes back from a failed replica goes before the requests that came after it.
    let previous = level.last;
    while (previous !== undefined && previous.sequence > request.sequence) previous = previous.previous;
    const next = previous === undefined ? level.first : previous.next;
    request.previous = previous;
    request.next = next;
    if (previous === undefined) level.first = request;
    else previous.next = request;
    if (next === undefined) level.last = request;
    else next.previous = request;
    request.isWaiting = true;
    this.#size += 1;
    if (this.batching.mayGather) this.#count(request, 1);
  }

  take(): PendingRequest | undefined {
    const { head } = this;
    if (head !== undefined) this.remove(head);
    return head;
  }

  /** @returns false when the request does not wait. */
  remove(request: PendingRequest): boolean {
    if (!request.isWaiting) return false;
    const { previous, next } = request;
    const level = this.#levelOf(request.priority);
    if (previous === undefined) level.first = next;
    else previous.next = next;
    if (next === undefined) level.last = previous;
    else next.previous = previous;
    if (level.first === undefined) this.#levels.splice(this.#levels.indexOf(level), 1);
    request.previous = undefined;
    request.next = undefined;
    request.isWaiting = false;
    this.#size -= 1;
    if (this.batching.mayGather) this.#count(request, -1);
    return true;
  }

  #count({ feeds, deadline }: PendingRequest, sign: 1 | -1): void {
    this.#rows += sign * Math.max(1, commonRows(feeds));
    if (deadline !== undefined) this.#deadlines += sign;
  }

  #levelOf(priority: number): Level {
    let low = 0;
    let high = this.#levels.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#levels[middle] as Level).priority > priority) low = middle + 1;
      else high = middle;
    }
    const found = this.#levels[low];
    if (found?.priority === priority) return found;
    const level: Level = { priority, first: undefined, last: undefined };
    this.#levels.splice(low, 0, level);
    return level;
  }
}

/** Whether the left queue's turn comes first: by the priority of the head, then in turns. An empty queue comes last. */
export function isQueueBefore(left: ModelQueue, right: ModelQueue): boolean {
  if (left.head === undefined) return false;
  if (right.head === undefined || left.head.priority > right.head.priority) return true;
  return left.head.priority === right.head.priority && turnOf(left, left.head) < turnOf(right, right.head);
}

function turnOf({ servedAt }: ModelQueue, head: PendingRequest): number {
  return Math.max(servedAt, head.sequence);
}

/** Whether the left request goes first by priority and arrival. */
export function isArrivedBefore(left: PendingRequest, right: PendingRequest): boolean {
  return left.priority > right.priority || (left.priority === right.priority && left.sequence < right.sequence);
}
