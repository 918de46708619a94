import type { Clock } from '../../common/clock.js';
import { isHandlerKey, NO_MODEL } from '../../contracts/handler.js';
import { DecayedSum } from '../estimates/decayed-sum.js';
import type { ModelQueue } from '../queues/model-queue.js';
import { type Candidate, type RoutableReplica, WORK_AVERAGE_MS } from './replicas/candidate.js';
import type { ReplicaIndex } from './replicas/replica-index.js';

/** A model is to be short of copies for so long, or for as long as a load takes. */
const SHORT_FOR_MS = 1_000;
const CHECKS_PER_WHILE = 8;
/** A copy goes to a replica that has no more than so much of the work of those that have the model, on average. */
const MUCH_LESS = 0.95;
/** A copy is spare when it was not used for so long, or so many loads, and others are. */
const UNUSED_MS = 10_000;
const UNUSED_LOADS = 10;
const NONE: readonly string[] = [];

/** A model that is to be loaded by one more replica. */
export interface ModelCopy<R extends RoutableReplica> {
  readonly queue: ModelQueue;
  readonly candidate: Candidate<R>;
  /** Keys of models there that may leave for it. */
  readonly spare: readonly string[];
}

/** The queue of a model, if it has one. */
export type QueueOf = (modelKey: string) => ModelQueue | undefined;

interface ModelWork {
  /** Milliseconds of its runs. */
  readonly ran: DecayedSum;
  /** Time of the clock since which it is short of copies, if it is. */
  shortSince: number | undefined;
  /** Time of the clock at which it is looked at again. */
  checkAt: number;
}

/**
 * Which models are to have another copy, and which copies may go.
 *
 * A copy's share is what the other models leave it of its replica. A model is short of copies when its work takes more than half
 * of their shares: when the replicas that have it are idle for less time than its runs take. By then its requests wait longer
 * than they would with another copy, though they may never wait for as long as a load takes. When that has lasted, an idle
 * replica that has room, if only in the place of a spare copy, and less to do than those, loads it; one at a time, since a load
 * keeps a replica from its other models.
 */
export class ModelCopies<R extends RoutableReplica> {
  readonly #replicas: ReplicaIndex<Candidate<R>>;
  readonly #queueOf: QueueOf;
  readonly #clock: Clock;
  readonly #models = new WeakMap<ModelQueue, ModelWork>();
  readonly #wanted = new Set<ModelQueue>();
  /** The copy that was named last. */
  #last: ModelCopy<R> | undefined;

  constructor(replicas: ReplicaIndex<Candidate<R>>, queueOf: QueueOf, clock: Clock) {
    this.#replicas = replicas;
    this.#queueOf = queueOf;
    this.#clock = clock;
  }

  /** The replica took so long for requests of the queue. */
  worked(candidate: Candidate<R>, queue: ModelQueue, runMs: number): void {
    const now = this.#clock.now();
    candidate.busy.add(runMs, now);
    // What a handler has loaded is its own affair.
    if (isHandlerKey(queue.modelKey)) return;
    const model = this.#workOf(queue, now);
    model.ran.add(runMs, now);
    if (now >= model.checkAt) this.#check(queue, model, now);
  }

  /**
   * The next copy to load, and where: on the least busy of the replicas with nothing to do that have room for it. It is not named
   * again before it has been short anew.
   */
  take(mayLoad: (queue: ModelQueue) => boolean): ModelCopy<R> | undefined {
    if (this.#wanted.size === 0 || this.#isLoadingLast()) return undefined;
    const now = this.#clock.now();
    for (const queue of this.#wanted) {
      const work = this.#workOf(queue, now);
      // It may have been unloaded since, or nobody asks for it any more.
      if (!this.#isShort(queue, work, now)) {
        this.#wanted.delete(queue);
        continue;
      }
      const place = mayLoad(queue) ? this.#placeFor(queue, now) : undefined;
      if (place === undefined) continue;
      this.#wanted.delete(queue);
      work.shortSince = undefined;
      this.#last = place;
      return this.#last;
    }
    return undefined;
  }

  /** The queue will not be used again. */
  forget(queue: ModelQueue): void {
    this.#wanted.delete(queue);
  }

  /** Models of the replica that others have too, and that nobody used here for long: they may leave before any other. */
  spareOn(candidate: Candidate<R>): string[] {
    // What a handler uses is not known here.
    if (candidate.models.has(NO_MODEL)) return [];
    const now = this.#clock.now();
    return [...candidate.models.keys()].filter((modelKey) => {
      if (this.#replicas.warm(modelKey).length < 2 || candidate.replica.pinned.has(modelKey)) return false;
      const loadMs = this.#queueOf(modelKey)?.times.loadMs ?? 0;
      return now - (candidate.usedAt.get(modelKey) ?? 0) > Math.max(UNUSED_MS, UNUSED_LOADS * loadMs);
    });
  }

  #check(queue: ModelQueue, model: ModelWork, now: number): void {
    const whileMs = Math.max(SHORT_FOR_MS, queue.times.loadMs);
    model.checkAt = now + whileMs / CHECKS_PER_WHILE;
    if (!this.#isShort(queue, model, now)) {
      model.shortSince = undefined;
      this.#wanted.delete(queue);
      return;
    }
    model.shortSince ??= now;
    if (now - model.shortSince >= whileMs) this.#wanted.add(queue);
  }

  /** @param but a replica that counts as one without the model. */
  #isShort({ modelKey }: ModelQueue, { ran }: ModelWork, now: number, but?: Candidate<R>): boolean {
    const warm = this.#replicas.warm(modelKey).filter((candidate) => candidate !== but);
    if (warm.length === 0 || warm.length === this.#replicas.size) return false;
    return warm.length - this.#busySum(warm, now) < ran.perMs(now);
  }

  #isLoadingLast(): boolean {
    if (this.#last === undefined) return false;
    const { candidate, queue } = this.#last;
    return this.#replicas.has(candidate) && candidate.loads.has(queue.modelKey);
  }

  #placeFor(queue: ModelQueue, now: number): ModelCopy<R> | undefined {
    const { modelKey, model } = queue;
    const warm = this.#replicas.warm(modelKey);
    let least = (MUCH_LESS * this.#busySum(warm, now)) / warm.length;
    let place: ModelCopy<R> | undefined;
    for (const candidate of this.#replicas.idle) {
      if (!candidate.isIdle || candidate.models.has(modelKey)) continue;
      const busy = candidate.busy.perMs(now);
      if (busy >= least) continue;
      const spare = this.#spareForCopy(candidate, model.bytes, now);
      if (spare === undefined) continue;
      least = busy;
      place = { queue, candidate, spare };
    }
    return place;
  }

  /** What may leave for a copy of so many bytes; undefined when there would be no room for it even then. */
  #spareForCopy(candidate: Candidate<R>, bytes: number, now: number): readonly string[] | undefined {
    const { freeModels, freeBytes } = candidate;
    if (freeModels >= 1 && freeBytes >= bytes) return NONE;
    // Copies of two models that are both short are not to take each other's place again and again.
    const spare = this.spareOn(candidate).filter((modelKey) => {
      const queue = this.#queueOf(modelKey);
      return queue === undefined || !this.#isShort(queue, this.#workOf(queue, now), now, candidate);
    });
    const spareBytes = spare.reduce((sum, modelKey) => sum + (this.#queueOf(modelKey)?.model.bytes ?? 0), 0);
    return freeModels + spare.length >= 1 && freeBytes + spareBytes >= bytes ? spare : undefined;
  }

  #busySum(warm: readonly Candidate<R>[], now: number): number {
    return warm.reduce((sum, candidate) => sum + candidate.busy.perMs(now), 0);
  }

  #workOf(queue: ModelQueue, now: number): ModelWork {
    let work = this.#models.get(queue);
    if (work === undefined) {
      work = { ran: new DecayedSum(WORK_AVERAGE_MS), shortSince: undefined, checkAt: now };
      this.#models.set(queue, work);
    }
    return work;
  }
}
