import { IndexedHeap } from '../../common/indexed-heap.js';
import { type Batching, batchingPolicy } from '../../contracts/batching.js';
import { ModelBatching } from '../batches/model-batching.js';
import { ExpectedTimes } from '../estimates/expected-times.js';
import { isNested, type PendingRequest, type RoutedModel, rowsOf } from '../pending-request.js';
import { Places } from './places.js';

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
  /** All levels, the one with the oldest request first; empty while there is one level at most, as nearly always. */
  readonly #byAge = new IndexedHeap<Level>(isOlder);
  readonly #places = new Places();
  #size = 0;
  #rows = 0;
  /** Clock time at which the last load of the model ended. */
  #loadEndedAt = Number.NEGATIVE_INFINITY;
  /** The sum over all requests: the clock time since which each waits, which is not before the end of the last load. */
  #sinceSum = 0;
  /** Requests that have a deadline, the least patient first. Kept only for models whose requests gather. */
  readonly #hurried = new IndexedHeap<PendingRequest>((left, right) => patienceOf(left) < patienceOf(right));
  /**
   * When the model was last served, among the sequence numbers of requests. Requests of other models that
   * waited by then go first: so a model with many waiting requests, or with long runs, holds up another by one run, not
   * by all of them.
   */
  servedAt = 0;
  /** Requests that were refused or answered with an error. */
  failed = 0;
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
    this.#rows = 0;
    while (this.#hurried.pop() !== undefined);
    if (!this.batching.mayGather) return;
    for (const { first } of this.#levels) {
      for (let request = first; request !== undefined; request = request.next) this.#gather(request);
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

  /** Whether shadow requests alone wait: they go behind all others, also behind those of other models. */
  get isShadow(): boolean {
    return this.head?.isShadow === true;
  }

  /** The model's place among the models with waiting requests; infinite when none waits. See {@link Places}. */
  get place(): number {
    return this.#places.first ?? Number.POSITIVE_INFINITY;
  }

  /** The request that comes after this one. This one must be in the queue. */
  after({ priority, next }: PendingRequest): PendingRequest | undefined {
    return next ?? this.#levels[this.#indexOf(priority) + 1]?.first;
  }

  /** Clock time at which the longest waiting request was accepted. */
  get waitingSince(): number | undefined {
    return (this.#byAge.peek() ?? this.#levels[0])?.first?.acceptedAt;
  }

  /** Milliseconds that the longest waiting request has waited by `now`; 0 when none waits. */
  waitedMs(now: number): number {
    return now - (this.waitingSince ?? now);
  }

  /**
   * Milliseconds that all its requests together have waited by `now` since the last load of the model ended: a load ends
   * the wait that it was worth, so each wait begins anew with it.
   */
  totalWaitedMs(now: number): number {
    return this.#size * now - this.#sinceSum;
  }

  /** Call it when a load of the model has ended in one of the replicas, in whatever way. */
  loadEnded(now: number): void {
    this.#loadEndedAt = now;
    this.#sinceSum = this.#size * now;
  }

  /**
   * Clock time until which the requests may wait for company: each for `maxWaitMs`, but no longer than half of the time
   * to its deadline.
   */
  patientUntil(maxWaitMs: number): number {
    const until = (this.waitingSince ?? Number.NEGATIVE_INFINITY) + maxWaitMs;
    const hurried = this.#hurried.peek();
    return hurried === undefined ? until : Math.min(until, patienceOf(hurried));
  }

  add(request: PendingRequest): void {
    const level = this.#levelOf(request.priority);
    // A request that comes back from a failed replica goes before the requests that came after it. Its place is looked
    // for from both ends, since it may be near either.
    let previous = level.last;
    let next = level.first;
    while (previous !== undefined && previous.sequence > request.sequence) {
      if (next === undefined || next.sequence > request.sequence) {
        previous = next?.previous;
        break;
      }
      previous = previous.previous;
      next = next.next;
    }
    next = previous === undefined ? level.first : previous.next;
    request.previous = previous;
    request.next = next;
    if (previous !== undefined) previous.next = request;
    else this.#begin(level, request);
    if (next === undefined) level.last = request;
    else next.previous = request;
    request.isWaiting = true;
    this.#size += 1;
    this.#sinceSum += Math.max(request.acceptedAt, this.#loadEndedAt);
    this.#places.add(request.sequence);
    if (this.batching.mayGather) this.#gather(request);
  }

  /** Takes the request, by default the head, for a replica. @returns undefined when no request waits. */
  take(request = this.head): PendingRequest | undefined {
    if (request === undefined) return undefined;
    this.#unlink(request);
    this.#places.takeFirst();
    return request;
  }

  /** Removes a request that no longer wants a replica. @returns false when the request does not wait. */
  remove(request: PendingRequest): boolean {
    if (!request.isWaiting) return false;
    this.#unlink(request);
    this.#places.giveUp(request.sequence);
    return true;
  }

  #unlink(request: PendingRequest): void {
    const { previous, next, priority } = request;
    const index = this.#indexOf(priority);
    const level = this.#levels[index] as Level;
    if (next === undefined) level.last = previous;
    else next.previous = previous;
    if (previous !== undefined) previous.next = next;
    else if (next !== undefined) this.#begin(level, next);
    else this.#drop(index);
    request.previous = undefined;
    request.next = undefined;
    request.isWaiting = false;
    this.#size -= 1;
    // An empty queue also forgets what rounding has left in the sum.
    this.#sinceSum = this.#size === 0 ? 0 : this.#sinceSum - Math.max(request.acceptedAt, this.#loadEndedAt);
    if (!this.batching.mayGather) return;
    this.#rows -= Math.max(1, rowsOf(request));
    this.#hurried.delete(request);
  }

  #gather(request: PendingRequest): void {
    this.#rows += Math.max(1, rowsOf(request));
    if (request.deadline !== undefined) this.#hurried.set(request);
  }

  /** The request is now the first of its level. */
  #begin(level: Level, request: PendingRequest): void {
    level.first = request;
    if (this.#levels.length > 1) this.#byAge.set(level);
  }

  /** Deletes an empty level. */
  #drop(index: number): void {
    const [level] = this.#levels.splice(index, 1);
    if (level !== undefined) this.#byAge.delete(level);
    if (this.#levels.length === 1) this.#byAge.pop();
  }

  /** The index of the first level whose priority is not higher. */
  #indexOf(priority: number): number {
    let low = 0;
    let high = this.#levels.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#levels[middle] as Level).priority > priority) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The level of this priority. If there is none, one begins, which must not stay empty. */
  #levelOf(priority: number): Level {
    const index = this.#indexOf(priority);
    const found = this.#levels[index];
    if (found?.priority === priority) return found;
    const level: Level = { priority, first: undefined, last: undefined };
    const [only] = this.#levels;
    if (only !== undefined && this.#levels.length === 1) this.#byAge.set(only);
    this.#levels.splice(index, 0, level);
    return level;
  }
}

/** Clock time at which half of the time to the deadline has passed. */
function patienceOf({ acceptedAt, deadline = Number.POSITIVE_INFINITY }: PendingRequest): number {
  return (acceptedAt + deadline) / 2;
}

function isOlder({ first: left }: Level, { first: right }: Level): boolean {
  return left !== undefined && right !== undefined && left.sequence < right.sequence;
}

/**
 * Whether the left model's turn comes first: a model's turn is by its first place, or by when it was last served if
 * that is later. Priorities do not count: they order the requests of one model. Models with a request that a handler
 * made come first; those for which shadow requests alone wait come last, and models without a request after them.
 */
export function isQueueBefore(left: ModelQueue, right: ModelQueue): boolean {
  const [ofLeft, ofRight] = [classOf(left), classOf(right)];
  return ofLeft < ofRight || (ofLeft === ofRight && turnOf(left) < turnOf(right));
}

/** Like {@link isQueueBefore}, but by the first places alone, whenever the models were last served. */
export function isPlaceBefore(left: ModelQueue, right: ModelQueue): boolean {
  const [ofLeft, ofRight] = [classOf(left), classOf(right)];
  return ofLeft < ofRight || (ofLeft === ofRight && left.place < right.place);
}

function classOf({ head }: ModelQueue): number {
  if (head === undefined) return 2;
  if (isNested(head)) return -1;
  return head.isShadow ? 1 : 0;
}

function turnOf({ servedAt, place }: ModelQueue): number {
  return Math.max(servedAt, place);
}
