import type { Clock } from '../../../common/clock.js';
import { commonRows } from '../../../tensors/tensor.js';
import type { ModelQueue } from '../../queues/model-queue.js';
import type { PlacementActions } from '../placement-rules.js';
import type { Candidate, RoutableReplica } from '../replicas/candidate.js';
import type { ReplicaIndex } from '../replicas/replica-index.js';
import type { WideWorth } from './wide-worth.js';

/** A run that takes so many times as long as expected is not waited for any longer. */
const OVERDUE = 2;

type TurnsActions = Pick<PlacementActions<RoutableReplica>, 'accepted' | 'areAllOf'>;

/**
 * Few requests, all of one model, run wide one after the other if they are then answered clearly sooner than beside each
 * other: each has all cores while it runs. Until the wide session is free they wait, and other replicas stay idle. They
 * are not joined into batches: while one runs, the next one arrives and is given ahead, so that no time is lost between.
 */
export class WideTurns<R extends RoutableReplica> {
  readonly #replicas: ReplicaIndex<Candidate<R>>;
  readonly #clock: Clock;
  readonly #actions: TurnsActions;
  readonly #takesTurns: () => boolean;
  /** The replica that runs wide, with the queue that its dispatches came from, and their number. */
  #running: { readonly candidate: Candidate<R>; readonly queue: ModelQueue; dispatches: number } | undefined;

  /** @param takesTurns whether it is left to the dispatcher which idle replica takes a request. */
  constructor(replicas: ReplicaIndex<Candidate<R>>, clock: Clock, actions: TurnsActions, takesTurns: () => boolean) {
    this.#replicas = replicas;
    this.#clock = clock;
    this.#actions = actions;
    this.#takesTurns = takesTurns;
  }

  /** Whether the queue's request is the only one of the deployment. One that lost a replica runs as it did before. */
  isAlone(queue: ModelQueue): boolean {
    return queue.size === 1 && this.#actions.accepted() === 1 && !queue.isRetrying && this.#takesTurns();
  }

  /** Whether the deployment's requests are few, all of them the queue's, and run wide one after the other. */
  areFew(queue: ModelQueue, worth: WideWorth): boolean {
    const { modelKey } = queue;
    const requests = this.#actions.accepted();
    if (queue.size === 0 || requests < 2 || requests > this.#replicas.size) return false;
    if (queue.isRetrying || !this.#takesTurns() || !this.#actions.areAllOf(modelKey)) return false;
    return worth.takesTurns(requests);
  }

  /** Clock time until which the queue's few requests wait for its own runs; undefined when they do not wait. */
  waitUntil(queue: ModelQueue, worth: WideWorth): number | undefined {
    if (queue.head === undefined) return undefined;
    const now = this.#clock.now();
    let until = now;
    let leftMs = 0;
    let atWork = 0;
    let inEngine = 0;
    for (const { isIdle, begunAt, expectedMs, replica, last } of this.#replicas.all()) {
      if (isIdle) continue;
      const [runMs] = expectedMs;
      // A run whose request is over is no less at work.
      if (replica.isLoading || runMs === undefined || last !== queue) return undefined;
      until = Math.max(until, begunAt + OVERDUE * runMs);
      leftMs = Math.max(leftMs, begunAt + runMs - now);
      atWork += 1;
      inEngine = 1 + replica.othersAtWork;
    }
    // While others have work, no request would run wide after these runs.
    if (inEngine > atWork || until <= now || !Number.isFinite(until)) return undefined;
    return worth.isWorthWaiting(leftMs, Math.max(1, commonRows(queue.head.feeds))) ? until : undefined;
  }

  /** Whether the candidate runs a request of the queue wide and can be given the next one ahead. */
  canFollow(candidate: Candidate<R>, queue: ModelQueue): boolean {
    const isRunning = this.#running?.candidate === candidate && this.#running.queue === queue;
    const { dispatches, isLoading } = candidate.replica;
    return isRunning && !isLoading && candidate.mayPrefetch(dispatches);
  }

  /** The queue that runs wide in the candidate. */
  queueOf(candidate: Candidate<R>): ModelQueue | undefined {
    return this.#running?.candidate === candidate ? this.#running.queue : undefined;
  }

  /** The candidate is given a wide dispatch. */
  given(candidate: Candidate<R>, queue: ModelQueue): void {
    if (this.#running?.candidate === candidate) this.#running.dispatches += 1;
    else this.#running = { candidate, queue, dispatches: 1 };
  }

  /** The candidate has answered a wide dispatch, or it died. */
  answered(candidate: Candidate<R>): void {
    if (this.#running?.candidate !== candidate) return;
    this.#running.dispatches -= 1;
    if (this.#running.dispatches === 0) this.#running = undefined;
  }
}
