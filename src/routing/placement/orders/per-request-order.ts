import { isDeepStrictEqual } from 'node:util';
import type { PendingRequest } from '../../pending-request.js';
import { isQueueBefore, type ModelQueue } from '../../queues/model-queue.js';
import type { Candidate, RoutableReplica } from '../replicas/candidate.js';
import type { PlacementContext, PlacementOrder } from './placement-order.js';

/** So many requests that find no replica are asked for in a turn of the event loop. */
const MOST_MISSES = 64;
/** Of requests that are alike so many: what the router says of one, it is likely to say of the next. */
const MOST_ALIKE = 4;
/** To pass over one costs so much of asking for one. */
const PASSED_OVER = 1 / 16;

/** Each request that waits is asked for once, in turns of the models. */
class Round {
  /** Queues whose requests were all asked for. */
  readonly asked = new Set<ModelQueue>();
  /** Where it goes on in a queue, if not with the head. */
  readonly resumeAt = new Map<ModelQueue, PendingRequest>();
}

/**
 * For routers that go by requests: each is asked for when it comes, and those that wait, in turns of their models, whenever
 * something frees. Those behind one that has to wait may go elsewhere.
 *
 * So many may have to wait that a round takes more than one turn of the event loop. Then what frees meanwhile is offered to the
 * first of all before the round goes on, and another round follows, so that nobody is passed over.
 */
export class PerRequestOrder<R extends RoutableReplica> implements PlacementOrder<R> {
  readonly spills = false;
  readonly looksAtAll = true;
  readonly #context: PlacementContext<R>;
  /** The one that goes on in the next turn of the event loop. */
  #round: Round | undefined;
  /** Whether something has freed since it began, or more is to be asked for. */
  #isStale = false;
  /** A slot that is free before its answer has arrived is not for whoever comes then, but for those who waited. */
  readonly #isAnswered = (candidate: Candidate<R>) => this.#context.slots.isAnswered(candidate);

  constructor(context: PlacementContext<R>) {
    this.#context = context;
  }

  place(queues: readonly ModelQueue[]): void {
    for (const queue of queues) {
      const round = new Round();
      // A router may want now what it did not before: those who have waited longer are asked for first.
      const first = this.#next(round);
      if (first !== undefined && first !== queue && isQueueBefore(first, queue)) this.serve();
      if (this.#placeAll(queue, round, MOST_MISSES, this.#isAnswered) <= 0) this.#goOnWith(round);
    }
  }

  placeBehind(queue: ModelQueue, request: PendingRequest): void {
    this.#placeOne(queue, request, this.#isAnswered);
  }

  serve(): void {
    const round = new Round();
    const before = this.#round;
    // All were asked for all that is free.
    if (this.#ask(round)) this.#round = undefined;
    else this.#goOnWith(round);
    // Those far behind are to get on however often something frees.
    if (before !== undefined && this.#round === before) this.#continue(before);
  }

  /** In the next turn of the event loop; after the round under way, if there is one. */
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

  /** @returns whether the round is over; otherwise it goes on. */
  #ask(round: Round): boolean {
    let misses = MOST_MISSES;
    for (let queue = this.#next(round); queue !== undefined && misses > 0; queue = this.#next(round)) {
      misses = this.#placeAll(queue, round, misses, anywhere);
      this.#context.updateEligibility(queue);
    }
    return misses > 0;
  }

  /** The first of the queues whose requests a replica could take, and that were not asked for yet. */
  #next({ asked }: Round): ModelQueue | undefined {
    const may = (queue: ModelQueue) => !asked.has(queue) && this.#canBeTaken(queue, anywhere);
    return this.#context.waiting.first(isQueueBefore, may);
  }

  /**
   * @param misses so many may have to wait; then those behind them are left for later.
   * @param may which replicas they may go to.
   * @returns how many are left of these.
   */
  #placeAll(queue: ModelQueue, round: Round, misses: number, may: (candidate: Candidate<R>) => boolean): number {
    let left = misses;
    const resumed = round.resumeAt.get(queue);
    round.resumeAt.delete(queue);
    const missed: PendingRequest[] = [];
    const isKnown = (other: PendingRequest) =>
      missed.filter((each) => areRoutedAlike(each, other)).length >= MOST_ALIKE;
    let request = resumed?.isWaiting === true ? resumed : queue.head;
    while (request !== undefined && left > 0 && this.#canBeTaken(queue, may)) {
      const next = queue.after(request);
      if (isKnown(request)) left -= PASSED_OVER;
      else if (!this.#placeOne(queue, request, may)) {
        missed.push(request);
        left -= 1;
      }
      // It may have gone along.
      request = next?.isWaiting === false ? queue.head : next;
    }
    if (left <= 0 && request !== undefined) round.resumeAt.set(queue, request);
    else round.asked.add(queue);
    return left;
  }

  #placeOne(queue: ModelQueue, request: PendingRequest, may: (candidate: Candidate<R>) => boolean): boolean {
    const candidate = this.#context.choose(queue, request, may);
    if (candidate === undefined) return false;
    this.#context.give(queue, candidate, { from: request, mayJoin: (other) => areRoutedAlike(request, other) });
    return true;
  }

  /** Otherwise the router need not be asked. */
  #canBeTaken(queue: ModelQueue, may: (candidate: Candidate<R>) => boolean): boolean {
    const { replicas, slots } = this.#context;
    return replicas.free.some((candidate) => may(candidate) && slots.has(candidate, queue));
  }
}

const anywhere = () => true;

/** Whether a router that goes by requests may be asked for both at once. */
export function areRoutedAlike(left: PendingRequest, right: PendingRequest): boolean {
  if (left.shardKey !== right.shardKey) return false;
  return left.labels === right.labels || isDeepStrictEqual(left.labels, right.labels);
}
