import type { Clock } from '../../common/clock.js';
import { isHandlerKey, NO_MODEL } from '../../contracts/handler.js';
import { DecayedSum } from '../estimates/decayed-sum.js';
import type { ModelQueue } from '../queues/model-queue.js';
import type { LoadBackoff } from './load-backoff.js';
import type { PlacementActions } from './placement-rules.js';
import { type Candidate, type RoutableReplica, WORK_AVERAGE_MS } from './replicas/candidate.js';
import type { ReplicaIndex } from './replicas/replica-index.js';
import { isLongUnused, spareFor } from './replicas/spare-for.js';

/** A model gets a copy after it was short of copies for this long, or for the time of a load if that is longer. */
const SHORT_FOR_MS = 1_000;
const CHECKS_PER_WHILE = 8;
/** A copy goes to a replica that is less busy than this fraction of the average of the model's replicas. */
const MUCH_LESS = 0.95;

/** One more replica for a model. */
export interface ModelCopy<R extends RoutableReplica> {
  readonly queue: ModelQueue;
  readonly candidate: Candidate<R>;
  /** Keys of models in that replica that may be evicted for it. */
  readonly spare: readonly string[];
}

/** Returns the queue of a model, if it has one. */
export type QueueOf = (modelKey: string) => ModelQueue | undefined;

interface ModelWork {
  /** Milliseconds that its runs took. */
  readonly ran: DecayedSum;
  /** Clock time since when the model is short of copies; undefined when it is not. */
  shortSince: number | undefined;
  /** Clock time of the next check. */
  checkAt: number;
}

/**
 * Decides which models get another copy, and which copies may be evicted.
 *
 * The share of a copy is the time of its replica that the other models leave to it. A model is short of copies when its
 * runs take more than half of the shares: when its replicas are idle for less time than its runs take. Its requests
 * then wait longer than they would with another copy, though they may never wait for as long as a load takes. When that
 * has lasted for a while, an idle replica loads the model. That replica is less busy than the model's replicas, and has
 * room, if only in the place of a spare copy. There is one load at a time, because a load keeps a replica from its
 * other models.
 */
export class ModelCopies<R extends RoutableReplica> {
  readonly #replicas: ReplicaIndex<Candidate<R>>;
  readonly #queueOf: QueueOf;
  readonly #loadBackoff: LoadBackoff;
  readonly #clock: Clock;
  readonly #actions: Pick<PlacementActions<R>, 'copy'>;
  readonly #models = new WeakMap<ModelQueue, ModelWork>();
  readonly #wanted = new Set<ModelQueue>();
  /** The copy that was loaded last. */
  #last: ModelCopy<R> | undefined;

  constructor(
    replicas: ReplicaIndex<Candidate<R>>,
    queueOf: QueueOf,
    loadBackoff: LoadBackoff,
    clock: Clock,
    actions: Pick<PlacementActions<R>, 'copy'>,
  ) {
    this.#replicas = replicas;
    this.#queueOf = queueOf;
    this.#loadBackoff = loadBackoff;
    this.#clock = clock;
    this.#actions = actions;
  }

  /** The replica took `runMs` for requests of the queue, wide or narrow. */
  worked(candidate: Candidate<R>, queue: ModelQueue, runMs: number, isWide: boolean): void {
    const now = this.#clock.now();
    candidate.busy.add(runMs, now);
    // Only the handler knows what it has loaded. A copy would take no lone request that can run wide.
    if (isWide || isHandlerKey(queue.modelKey)) return;
    const model = this.#workOf(queue, now);
    model.ran.add(runMs, now);
    if (now >= model.checkAt) this.#check(queue, model, now);
  }

  /** Loads the next copy, if a model is short of copies and a replica is idle. */
  loadNext(): void {
    const copy = this.#take();
    if (copy !== undefined) this.#actions.copy(copy);
  }

  /**
   * Returns the next copy to load, in the least busy of the idle replicas that have room for it. A model is not
   * returned again until it has been short of copies anew.
   */
  #take(): ModelCopy<R> | undefined {
    if (this.#wanted.size === 0 || this.#isLoadingLast()) return undefined;
    const now = this.#clock.now();
    for (const queue of this.#wanted) {
      const work = this.#workOf(queue, now);
      // The model may be unloaded by now, or no longer in demand.
      if (!this.#isShort(queue, work, now)) {
        this.#wanted.delete(queue);
        continue;
      }
      const place = this.#loadBackoff.mayLoad(queue.modelKey) ? this.#placeFor(queue, now) : undefined;
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

  /** Keys of models that other replicas have too and that were long unused here: they may be evicted first. */
  spareOn(candidate: Candidate<R>): string[] {
    // The models that a handler uses are not known here.
    if (candidate.models.has(NO_MODEL)) return [];
    const now = this.#clock.now();
    return [...candidate.models.keys()].filter((modelKey) => {
      if (this.#replicas.warm(modelKey).length < 2 || candidate.replica.pinned.has(modelKey)) return false;
      return isLongUnused(candidate, modelKey, this.#queueOf, now);
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

  /** @param but a replica that is counted as if it did not have the model. */
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
      const spare = spareFor(candidate, model.bytes, this.#queueOf, () => this.#spareForCopy(candidate, now));
      if (spare === undefined) continue;
      least = busy;
      place = { queue, candidate, spare };
    }
    return place;
  }

  /** Two models that are both short must not evict each other's copies again and again. */
  #spareForCopy(candidate: Candidate<R>, now: number): readonly string[] {
    return this.spareOn(candidate).filter((modelKey) => {
      const queue = this.#queueOf(modelKey);
      return queue === undefined || !this.#isShort(queue, this.#workOf(queue, now), now, candidate);
    });
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
