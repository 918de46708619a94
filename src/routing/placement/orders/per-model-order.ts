import { isQueueBefore, type ModelQueue } from '../../queues/model-queue.js';
import type { Candidate, RoutableReplica } from '../replicas/candidate.js';
import type { PlacementContext, PlacementOrder } from './placement-order.js';

/**
 * The order for routers that go by models: the requests of a model wait in one line, and models take turns.
 *
 * A free slot goes to the first of the models that the replica has, or that no replica has. A model that waits for
 * other, busy replicas is loaded here only when the router finds it worth a load and the replica has nothing else to
 * do. So spilling takes idle capacity, and cannot make two loaded replicas evict each other's models. A model that has
 * waited very long is served in its turn by any replica.
 */
export class PerModelOrder<R extends RoutableReplica> implements PlacementOrder<R> {
  readonly spills = true;
  readonly looksAtAll = false;
  readonly takesTurns = true;
  readonly #context: PlacementContext<R>;

  constructor(context: PlacementContext<R>) {
    this.#context = context;
  }

  place(queues: readonly ModelQueue[]): void {
    // The requests of other models may be for the replica that this one would spill to.
    const spilling = queues.filter((queue) => this.#place(queue, false));
    for (const queue of spilling) this.#place(queue, true);
  }

  /** @returns whether the queue would go on in a replica where it spills, and `maySpill` is false. */
  #place(queue: ModelQueue, maySpill: boolean): boolean {
    const { replicas, choose, give, updateEligibility } = this.#context;
    const next = () => (queue.head === undefined ? undefined : choose(queue, queue.head));
    for (let candidate = next(); candidate !== undefined; candidate = next()) {
      const isSpill = !candidate.models.has(queue.modelKey) && replicas.warm(queue.modelKey).length > 0;
      if (isSpill && !maySpill) return true;
      const first = this.#whoseTurn(candidate, queue);
      give(first, candidate);
      if (first !== queue) updateEligibility(first);
    }
    return false;
  }

  serve(candidate: Candidate<R>): void {
    const { give, updateEligibility, place, replicas } = this.#context;
    const spilling = new Set<ModelQueue>();
    for (let queue = this.#nextFor(candidate); queue !== undefined; queue = this.#nextFor(candidate)) {
      give(queue, candidate);
      if (updateEligibility(queue) === 'spilling' && replicas.idle.length > 0) spilling.add(queue);
    }
    // The requests that are left may be worth a load in another replica.
    for (const queue of spilling) place(queue);
  }

  #nextFor(candidate: Candidate<R>): ModelQueue | undefined {
    const { slots, waiting, spillsTo } = this.#context;
    const visited = slots.visited(candidate);
    if (visited !== undefined) return visited;
    const anywhere = waiting.firstAnywhere;
    const mayBegin = anywhere !== undefined && candidate.mayBegin(candidate.dispatchesBefore(anywhere));
    let next = mayBegin && !candidate.replica.isLoading ? anywhere : undefined;
    for (const queue of waiting.among(candidate.models)) {
      if (next !== undefined && !this.#isTurnBefore(candidate, queue, next)) continue;
      if (slots.has(candidate, queue)) next = queue;
    }
    return next ?? (candidate.canBegin ? waiting.firstSpilling((queue) => spillsTo(queue, candidate)) : undefined);
  }

  /**
   * Returns the queue that the slot belongs to. The shared counters show a free slot before the answer that freed it
   * arrives here. Another model may have waited longer for it, and would wait for ever if each new arrival went first.
   */
  #whoseTurn(candidate: Candidate<R>, queue: ModelQueue): ModelQueue {
    const other = this.#nextFor(candidate);
    const isOthers =
      other !== undefined && this.#isTurnBefore(candidate, other, queue) && this.#context.slots.has(candidate, other);
    return isOthers ? other : queue;
  }

  /** A model that the replica is running counts as served just now. */
  #isTurnBefore(candidate: Candidate<R>, queue: ModelQueue, other: ModelQueue): boolean {
    const { slots } = this.#context;
    const isEqual = queue.isShadow === other.isShadow;
    if (isEqual && slots.isServing(candidate, other)) return true;
    if (isEqual && slots.isServing(candidate, queue)) return false;
    return isQueueBefore(queue, other);
  }
}
