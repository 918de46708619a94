import type { Clock } from '../../../common/clock.js';
import type { PendingDispatch } from '../../batches/take-dispatch.js';
import { isQueueBefore, type ModelQueue } from '../../queues/model-queue.js';
import type { WaitingModels } from '../../queues/waiting-models.js';
import type { LoadBackoff } from '../load-backoff.js';
import type { QueueOf } from '../model-copies.js';
import type { PlacementActions } from '../placement-rules.js';
import type { Candidate, RoutableReplica } from '../replicas/candidate.js';
import { isLongUnused, spareFor } from '../replicas/spare-for.js';
import { ExpressNeed } from './express-need.js';
import { isLong, MANY_TIMES, RunLengths } from './run-lengths.js';

/** A wait of this many runs is due to others. */
const HELD_UP_TIMES = MANY_TIMES / 2;
/** A run of the express replica that takes longer than this has turned slow: nothing relies on its end. */
const OVERDUE_MS = 100;

/** Carries out what the lane decides. */
interface ExpressLaneActions<R extends RoutableReplica> extends Pick<PlacementActions<R>, 'copy' | 'expressNeeded'> {
  /** Whether models take turns: otherwise the lane is given nothing. */
  takesTurns(): boolean;
  /** Gives the replica the next requests of the queue, from one to `most`. */
  give(queue: ModelQueue, candidate: Candidate<R>, most: number): void;
}

/** A long run that a replica was given. */
interface LongRun {
  readonly queue: ModelQueue;
  readonly milliseconds: number;
  /** Clock time at which it is expected to end. */
  readonly endsAt: number;
}

/**
 * The express replica: what it has loaded, and what it is given. Other replicas go first. A short run that none of them
 * can begin now goes here, if its model is loaded here.
 *
 * The replica is given one dispatch at a time and none ahead, so a short run waits for one other at most. A short run
 * is not given ahead behind a long one either, which may end later than expected.
 *
 * A model is loaded when its waits behind long runs have paid for the load, and when there is room, if only in the place
 * of a model that is short no more or long unused.
 */
export class ExpressLane<R extends RoutableReplica> {
  readonly #waiting: WaitingModels;
  readonly #replicas: { readonly express: Candidate<R> | undefined };
  readonly #queueOf: QueueOf;
  readonly #clock: Clock;
  readonly #loadBackoff: LoadBackoff;
  readonly #actions: ExpressLaneActions<R>;
  readonly #lengths = new RunLengths();
  readonly #need: ExpressNeed;
  /** Models whose waits have paid for a load, in the order in which they did. */
  readonly #wanted = new Set<ModelQueue>();
  /** Whether the last work of the express replica was a load. */
  #wasLoad = false;
  /** The last long run of each replica. */
  readonly #longRuns = new WeakMap<Candidate<R>, LongRun>();

  constructor(
    waiting: WaitingModels,
    replicas: { readonly express: Candidate<R> | undefined },
    queueOf: QueueOf,
    loadBackoff: LoadBackoff,
    clock: Clock,
    actions: ExpressLaneActions<R>,
  ) {
    this.#waiting = waiting;
    this.#replicas = replicas;
    this.#queueOf = queueOf;
    this.#loadBackoff = loadBackoff;
    this.#clock = clock;
    this.#actions = actions;
    this.#need = new ExpressNeed(
      clock,
      () => this.#longestLoadMs(),
      (isNeeded) => actions.expressNeeded(isNeeded),
    );
  }

  /** Gives the replica work, if it has none. Call it when all other replicas were given what they can take. */
  serve(): void {
    const candidate = this.#replicas.express;
    if (candidate === undefined || !candidate.isIdle || !this.#isOpen()) return;
    const now = this.#clock.now();
    const next = this.#next(candidate, now);
    // Loads that were paid for must not wait for ever, and must not hold up runs one after the other.
    if (next === undefined || !this.#wasLoad) this.#load(candidate, now);
    this.#wasLoad = !candidate.isIdle;
    if (next === undefined || this.#wasLoad) return;
    this.#need.used(now);
    this.#actions.give(next, candidate, this.#lengths.shortRun(next, now));
  }

  /** Whether the queue's next requests may wait behind the run that the replica is to end soon. */
  mayFollow({ last }: Candidate<R>, queue: ModelQueue): boolean {
    const lane = this.#replicas.express;
    if (lane === undefined || !this.#isOpen() || lane.models.get(queue.modelKey) !== 'loaded') return true;
    const now = this.#clock.now();
    const isLate = lane.replica.isLoading || (!lane.isIdle && now - lane.begunAt > OVERDUE_MS);
    return isLate || !this.#takes(queue, now) || (last !== undefined && this.#lengths.isShort(last, now));
  }

  /** Call it before the dispatch is noted as given to the replica. */
  given(candidate: Candidate<R>, queue: ModelQueue, dispatch: PendingDispatch): void {
    if (!this.#lengths.matters(dispatch.expectedMs)) return;
    const now = this.#clock.now();
    this.#lengths.begun(queue, now);
    if (!this.#actions.takesTurns() || candidate === this.#replicas.express) return;
    const ownMs = this.#lengths.msOf(queue);
    if (ownMs === undefined) return;
    const long = this.#longRuns.get(candidate);
    if (long !== undefined && this.#lengths.isShort(queue, now)) this.#noteWaits(long, ownMs, queue, dispatch, now);
    else if (isLong(ownMs)) this.#longRuns.set(candidate, { queue, milliseconds: ownMs, endsAt: now + ownMs });
  }

  /** The queue's requests took `runMs` in all, on whatever replica. */
  worked(queue: ModelQueue, requests: number, runMs: number): void {
    if (this.#lengths.matters(runMs)) this.#lengths.worked(queue, requests, runMs, this.#clock.now());
  }

  /** The queue will not be used again. */
  forget(queue: ModelQueue): void {
    this.#wanted.delete(queue);
  }

  #isOpen(): boolean {
    return this.#actions.takesTurns() && this.#need.isNeeded;
  }

  /** Adds up how long these requests of a short model waited behind the long run. */
  #noteWaits(long: LongRun, ownMs: number, queue: ModelQueue, { groups }: PendingDispatch, now: number): void {
    // A model whose runs were slow for a moment holds up itself, and would do so anywhere.
    if (long.queue === queue || long.milliseconds < MANY_TIMES * ownMs) return;
    // The replica may have run others since.
    const until = Math.min(now, long.endsAt) - queue.batching.maxWaitMs;
    let waited = 0;
    let totalMs = 0;
    for (const { requests } of groups) {
      for (const { acceptedAt, attempts, isShadow } of requests) {
        const waitedMs = Math.min(long.milliseconds, until - acceptedAt);
        if (isShadow || attempts > 1 || waitedMs < HELD_UP_TIMES * ownMs) continue;
        waited += 1;
        totalMs += waitedMs;
      }
    }
    if (waited === 0) return;
    this.#need.heldUp(queue, waited, totalMs, now);
    if (this.#need.hasPaid(queue, now)) this.#wanted.add(queue);
  }

  #next(candidate: Candidate<R>, now: number): ModelQueue | undefined {
    let next: ModelQueue | undefined;
    for (const queue of this.#waiting.among(candidate.models)) {
      if (next !== undefined && !isQueueBefore(queue, next)) continue;
      if (this.#takes(queue, now)) next = queue;
    }
    return next;
  }

  /** Whether the queue's next requests are a short run, and nothing else is to be said against them. */
  #takes(queue: ModelQueue, now: number): boolean {
    const { isGathering, isRetrying, isShadow } = queue;
    return !isGathering && !isRetrying && !isShadow && this.#lengths.shortRun(queue, now) > 0;
  }

  /** Orders the first load that has been paid for and that there is room for. */
  #load(candidate: Candidate<R>, now: number): void {
    for (const queue of this.#wanted) {
      const { modelKey, model } = queue;
      const isWanted = this.#need.hasPaid(queue, now) && this.#lengths.isShort(queue, now);
      if (!isWanted || candidate.models.has(modelKey)) {
        this.#wanted.delete(queue);
        continue;
      }
      if (!this.#loadBackoff.mayLoad(modelKey)) continue;
      const spare = spareFor(candidate, model.bytes, this.#queueOf, () => this.#spareOn(candidate, now));
      if (spare === undefined) continue;
      this.#wanted.delete(queue);
      this.#actions.copy({ queue, candidate, spare });
      return;
    }
  }

  /** Keys of models that the replica can do without. */
  #spareOn(candidate: Candidate<R>, now: number): string[] {
    return [...candidate.models.keys()].filter((modelKey) => {
      if (candidate.replica.pinned.has(modelKey)) return false;
      const queue = this.#queueOf(modelKey);
      const isShort = queue !== undefined && this.#lengths.isShort(queue, now);
      return !isShort || isLongUnused(candidate, modelKey, this.#queueOf, now);
    });
  }

  #longestLoadMs(): number {
    let longestMs = 0;
    for (const modelKey of this.#replicas.express?.models.keys() ?? [])
      longestMs = Math.max(longestMs, this.#queueOf(modelKey)?.times.loadMs ?? 0);
    return longestMs;
  }
}
