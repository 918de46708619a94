import type { PendingRequest } from '../../pending-request.js';
import { isQueueBefore, type ModelQueue } from '../../queues/model-queue.js';
import type { Candidate, RoutableReplica } from '../replicas/candidate.js';
import type { PlacementContext, PlacementOrder } from './placement-order.js';

/** Most requests per turn of the event loop that the router is asked for in vain. */
const MOST_MISSES = 64;
/** Most of those that are alike: the router is likely to give the next one the same answer. */
const MOST_ALIKE = 4;
/** The cost of skipping a request, as a fraction of the cost of asking the router for one. */
const PASSED_OVER = 1 / 16;

/** One pass over all waiting requests: the router is asked once for each, in turns of their models. */
class Round {
  /** Queues that are done: the router was asked for all their requests. */
  readonly asked: Set<ModelQueue>;
  /** The request with which the round goes on in a queue, if that is not the head. */
  readonly resumeAt = new Map<ModelQueue, PendingRequest>();

  /** @param asked queues that the round leaves out. */
  constructor(asked: Iterable<ModelQueue> = []) {
    this.asked = new Set(asked);
  }
}

/**
 * The order for routers that go by requests. The router is asked for each request when it arrives, and for all waiting
 * requests, in turns of their models, whenever a slot frees. A request may go elsewhere while one before it has to
 * wait.
 *
 * With many waiting requests a round takes more than one turn of the event loop. A slot that frees meanwhile is offered
 * from the first request on before the round continues, and another round follows, so that no request is skipped.
 */
export class PerRequestOrder<R extends RoutableReplica> implements PlacementOrder<R> {
  readonly spills = false;
  readonly looksAtAll = true;
  readonly takesTurns = false;
  readonly isBefore = isQueueBefore;
  readonly #context: PlacementContext<R>;
  /** The round that continues in the next turn of the event loop. */
  #round: Round | undefined;
  /** Whether another round has to follow: a slot has freed since the round began, or another round was cut short. */
  #isStale = false;
  /** A slot that is free before its answer has arrived is for requests that waited, not for one that arrives now. */
  readonly #isAnswered = (candidate: Candidate<R>) => this.#context.slots.isAnswered(candidate);

  constructor(context: PlacementContext<R>) {
    this.#context = context;
  }

  place(queues: readonly ModelQueue[]): void {
    // Requests that have waited longer go first: the router may now accept a replica that it refused them before.
    const first = this.#next(new Round(queues));
    if (first !== undefined && queues.some((queue) => isQueueBefore(first, queue))) this.serve();
    for (const queue of queues) {
      const round = new Round();
      if (this.#placeAll(queue, round, MOST_MISSES, this.#isAnswered) <= 0) this.#goOnWith(round);
    }
  }

  placeBehind(queue: ModelQueue, request: PendingRequest): void {
    this.#placeOne(queue, request, this.#isAnswered);
  }

  serve(): void {
    const round = new Round();
    const before = this.#round;
    // The router was asked for every request, with all slots that are free now.
    if (this.#ask(round)) this.#round = undefined;
    else this.#goOnWith(round);
    // Requests far behind must advance too, however often a slot frees.
    if (before !== undefined && this.#round === before) this.#continue(before);
  }

  /** Continues the round in the next turn of the event loop, or has another one follow the round under way. */
  #goOnWith(round: Round): void {
    this.#isStale = this.#round !== undefined;
    if (this.#isStale) return;
    this.#round = round;
    this.#inNextTurn(round);
  }

  #inNextTurn(round: Round): void {
    this.#context.nextTurn(() => {
      if (this.#round === round) this.#continue(round);
      if (this.#round === round) this.#inNextTurn(round);
    });
  }

  #continue(round: Round): void {
    if (!this.#ask(round)) return;
    this.#round = undefined;
    if (this.#isStale) this.serve();
  }

  /** @returns whether the round is over. */
  #ask(round: Round): boolean {
    let misses = MOST_MISSES;
    for (let queue = this.#next(round); queue !== undefined && misses > 0; queue = this.#next(round)) {
      misses = this.#placeAll(queue, round, misses, anywhere);
      this.#context.updateEligibility(queue);
    }
    return misses > 0;
  }

  /** The first queue that is not done and that a replica has a slot for. */
  #next({ asked }: Round): ModelQueue | undefined {
    if (this.#context.replicas.free.length === 0) return undefined;
    const may = (queue: ModelQueue) => !asked.has(queue) && this.#canBeTaken(queue, anywhere);
    return this.#context.waiting.first(may);
  }

  /**
   * Asks the router for the queue's requests.
   *
   * @param misses most requests that may have to go on waiting; the requests behind them are left for later.
   * @param may which replicas the requests may go to.
   * @returns what is left of `misses`.
   */
  #placeAll(queue: ModelQueue, round: Round, misses: number, may: (candidate: Candidate<R>) => boolean): number {
    let left = misses;
    const resumed = round.resumeAt.get(queue);
    round.resumeAt.delete(queue);
    const missed: PendingRequest[] = [];
    const isKnown = (other: PendingRequest) =>
      missed.filter((each) => this.#context.areRoutedAlike(each, other)).length >= MOST_ALIKE;
    let request = resumed?.isWaiting === true ? resumed : queue.head;
    while (request !== undefined && left > 0 && this.#canBeTaken(queue, may)) {
      const next = queue.after(request);
      if (isKnown(request)) left -= PASSED_OVER;
      else if (!this.#placeOne(queue, request, may)) {
        missed.push(request);
        left -= 1;
      }
      // The next request may have gone along in the same dispatch.
      request = next?.isWaiting === false ? queue.head : next;
    }
    if (left <= 0 && request !== undefined) round.resumeAt.set(queue, request);
    else round.asked.add(queue);
    return left;
  }

  #placeOne(queue: ModelQueue, request: PendingRequest, may: (candidate: Candidate<R>) => boolean): boolean {
    const candidate = this.#context.choose(queue, request, may);
    if (candidate === undefined) return false;
    const mayJoin = (other: PendingRequest) => this.#context.areRoutedAlike(request, other);
    this.#context.give(queue, candidate, { from: request, mayJoin });
    return true;
  }

  /** Whether a replica has a slot for the queue; otherwise the router need not be asked. */
  #canBeTaken(queue: ModelQueue, may: (candidate: Candidate<R>) => boolean): boolean {
    const { replicas, slots } = this.#context;
    return replicas.free.some((candidate) => may(candidate) && slots.has(candidate, queue));
  }
}

const anywhere = () => true;
