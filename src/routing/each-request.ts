import { isDeepStrictEqual } from 'node:util';
import type { RoutableReplica } from './candidate.js';
import { isQueueBefore, type ModelQueue } from './model-queue.js';
import type { PendingRequest } from './pending-request.js';
import type { PlacingGround, PlacingOrder } from './placing-order.js';

/** So many requests that find no replica are asked for in a turn of the event loop. */
const MOST_MISSES = 64;
/** Of requests that are alike so many: what the router says of one, it is likely to say of the next. */
const MOST_ALIKE = 4;
/** To pass over one costs so much of asking for one. */
const PASSED_OVER = 1 / 16;

/**
 * For routers that go by requests: each is asked for when it comes, and those that wait, in turns of their models, whenever
 * something frees. Those behind one that has to wait may go elsewhere.
 */
export class EachRequest<R extends RoutableReplica> implements PlacingOrder<R> {
  readonly spills = false;
  readonly looksAtAll = true;
  readonly #ground: PlacingGround<R>;
  /** Queues whose requests were all asked for in this round, in which not all could be at once. */
  readonly #asked = new Set<ModelQueue>();
  /** Where the round goes on in a queue. */
  readonly #resumeAt = new WeakMap<ModelQueue, PendingRequest>();
  #isGoingOn = false;
  /** Whether something has freed since the round began. */
  #isStale = false;

  constructor(ground: PlacingGround<R>) {
    this.#ground = ground;
  }

  place(queues: readonly ModelQueue[]): void {
    for (const queue of queues) {
      // A slot that is free before its answer has arrived is not for whoever comes at that moment.
      const first = this.#next();
      if (first !== undefined && first !== queue && isQueueBefore(first, queue)) this.serve();
      if (this.#placeAll(queue, MOST_MISSES) <= 0) this.#goOn();
    }
  }

  placeBehind(queue: ModelQueue, request: PendingRequest): void {
    if (this.#canBeTaken(queue)) this.#placeOne(queue, request);
  }

  serve(): void {
    this.#isStale = this.#isGoingOn;
    this.#ask();
  }

  #ask(): void {
    let misses = MOST_MISSES;
    for (let queue = this.#next(); queue !== undefined && misses > 0; queue = this.#next()) {
      misses = this.#placeAll(queue, misses);
      if (!this.#resumeAt.has(queue)) this.#asked.add(queue);
      this.#ground.park(queue);
    }
    // All were asked for; whatever frees next begins anew. Otherwise the event loop turns before it goes on.
    if (misses > 0) this.#asked.clear();
    if (misses <= 0 || this.#isStale) this.#goOn();
  }

  #goOn(): void {
    if (this.#isGoingOn) return;
    this.#isGoingOn = true;
    this.#ground.nextTurn(() => {
      this.#isGoingOn = false;
      this.#isStale = false;
      this.#ask();
    });
  }

  /** The first of the queues whose requests a replica could take, and that were not asked for yet. */
  #next(): ModelQueue | undefined {
    const may = (queue: ModelQueue) => !this.#asked.has(queue) && this.#canBeTaken(queue);
    return this.#ground.waiting.first(isQueueBefore, may);
  }

  /**
   * @param misses so many may have to wait; then those behind them are left for later.
   * @returns how many are left of these.
   */
  #placeAll(queue: ModelQueue, misses: number): number {
    let left = misses;
    const resumed = this.#resumeAt.get(queue);
    const missed: PendingRequest[] = [];
    const isKnown = (request: PendingRequest) =>
      missed.filter((other) => areRoutedAlike(other, request)).length >= MOST_ALIKE;
    let request = resumed?.isWaiting === true ? resumed : queue.head;
    this.#resumeAt.delete(queue);
    for (; request !== undefined && left > 0 && this.#canBeTaken(queue); ) {
      const next = queue.after(request);
      if (isKnown(request)) left -= PASSED_OVER;
      else if (!this.#placeOne(queue, request)) {
        missed.push(request);
        left -= 1;
      }
      // It may have gone along.
      request = next?.isWaiting === false ? queue.head : next;
    }
    if (request !== undefined && left <= 0) this.#resumeAt.set(queue, request);
    return left;
  }

  #placeOne(queue: ModelQueue, request: PendingRequest): boolean {
    const candidate = this.#ground.choose(queue, request);
    if (candidate === undefined) return false;
    this.#ground.give(queue, candidate, { from: request, mayJoin: (other) => areRoutedAlike(request, other) });
    return true;
  }

  /** Otherwise the router need not be asked. */
  #canBeTaken(queue: ModelQueue): boolean {
    const { replicas, slots } = this.#ground;
    return replicas.free.some((candidate) => slots.has(candidate, queue));
  }
}

/** Whether a router that goes by requests may be asked for both at once. */
export function areRoutedAlike(left: PendingRequest, right: PendingRequest): boolean {
  if (left.shardKey !== right.shardKey) return false;
  return left.labels === right.labels || isDeepStrictEqual(left.labels, right.labels);
}
