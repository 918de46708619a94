import type { Clock } from '../../../common/clock.js';
import type { ModelState, ReplicaView, RoutingStats } from '../../../contracts/request-router.js';
import type { RoutedAnswer, RoutedDispatch } from '../../batches/routed-dispatch.js';
import { DecayedSum } from '../../estimates/decayed-sum.js';
import { MovingAverage } from '../../estimates/moving-average.js';
import type { RoutedModel } from '../../pending-request.js';
import type { ModelQueue } from '../../queues/model-queue.js';

/** A running replica, as the dispatcher needs it. */
export interface RoutableReplica
  extends Pick<ReplicaView, 'id' | 'deployment' | 'labels' | 'ongoing' | 'models' | 'freeBytes' | 'freeModels'> {
  /** Dispatches given to it and not finished. */
  readonly dispatches: number;
  /** True from the order of a load until it ended; the thread is blocked. */
  readonly isLoading: boolean;
  /** The model whose load has begun in the thread and not ended. */
  readonly loadUnderWay: string | undefined;
  /** Models that do not leave to make room for others. */
  readonly pinned: ReadonlySet<string>;
  /** What its handler told of itself, if it did. */
  readonly ownStats: Readonly<Record<string, unknown>> | undefined;
  /**
   * Gives it requests. If the model is not among `models`, it is from now on, as loading.
   * Rejects with `REPLICA_FAILED` when the replica died or stopped before it answered: then another may be asked.
   */
  run(dispatch: RoutedDispatch): PromiseLike<RoutedAnswer>;
  /**
   * Loads the model ahead of requests. It is among `models` from now on, as loading.
   *
   * @param how.spare keys of models that may leave before others.
   */
  load(model: RoutedModel, how: { readonly pin: boolean; readonly spare: readonly string[] }): PromiseLike<void>;
}

/**
 * A load pays for all that waited for its model when it was ordered: the replica serves them before it turns to other
 * models, and no more than them, so that nobody is kept waiting without end (gated service, as in polling systems).
 */
interface Visit {
  readonly queue: ModelQueue;
  /** Requests that arrived from here on take their turn like any other. */
  readonly untilSequence: number;
}

/** One dispatch that runs and one that is prefetched. */
const MOST_DISPATCHES = 2;
/** Work and throughput are averaged over about so long. */
export const WORK_AVERAGE_MS = 10_000;

/** A running replica among those that a request may go to, with what it was given. */
export class Candidate<R extends RoutableReplica = RoutableReplica> implements ReplicaView {
  readonly replica: R;
  readonly #clock: Clock;
  readonly #answered = new DecayedSum(WORK_AVERAGE_MS);
  /** Milliseconds of its runs: its share of the time is their sum per millisecond. */
  readonly busy = new DecayedSum(WORK_AVERAGE_MS);
  readonly #runMs = new MovingAverage();
  readonly #loadMs = new MovingAverage();
  /** Milliseconds that each dispatch without an answer is expected to take, its load not counted; the first runs. */
  readonly expectedMs: number[] = [];
  /** Time of the clock at which the first began to run; its load does not count. */
  begunAt = 0;
  /** Loads that were ordered and have not ended, with the time of the clock at which they are expected to have. */
  readonly loads = new Map<string, number>();
  /** Time of the clock at which each of its models was last asked for here. */
  readonly usedAt = new Map<string, number>();
  /** The queue that the last one came from. */
  last: ModelQueue | undefined;
  /** Whether the one that runs is expected to end soon. */
  endsSoon = false;
  cancelTimer: (() => void) | undefined;
  visit: Visit | undefined;
  /** Most requests that it may have at once. */
  maxOngoing = Number.POSITIVE_INFINITY;

  constructor(replica: R, clock: Clock) {
    this.replica = replica;
    this.#clock = clock;
  }

  get id(): string {
    return this.replica.id;
  }

  get deployment(): string {
    return this.replica.deployment;
  }

  get labels(): Readonly<Record<string, string>> {
    return this.replica.labels;
  }

  get ongoing(): number {
    return this.replica.ongoing;
  }

  get capacity(): number {
    const { dispatches, isLoading } = this.replica;
    return !isLoading && this.mayTake(dispatches) ? this.maxOngoing : Math.min(this.ongoing, this.maxOngoing);
  }

  get models(): ReadonlyMap<string, ModelState> {
    return this.replica.models;
  }

  get freeBytes(): number {
    return this.replica.freeBytes;
  }

  get freeModels(): number {
    return this.replica.freeModels;
  }

  get expectedWorkMs(): number {
    const now = this.#clock.now();
    let workMs = 0;
    for (const endsAt of this.loads.values()) workMs += Math.max(0, endsAt - now);
    for (const [index, milliseconds] of this.expectedMs.entries()) {
      if (milliseconds === Number.POSITIVE_INFINITY) continue;
      workMs += index === 0 ? Math.max(0, this.begunAt + milliseconds - now) : milliseconds;
    }
    return workMs;
  }

  get routingStats(): RoutingStats {
    return {
      throughput: 1_000 * this.#answered.perMs(this.#clock.now()),
      runMs: this.#runMs.value ?? 0,
      loadMs: this.#loadMs.value ?? 0,
      ...this.replica.ownStats,
    };
  }

  get isIdle(): boolean {
    return this.replica.dispatches === 0 && !this.replica.isLoading;
  }

  /** Whether it can be given one more dispatch, by how many it has. */
  mayTake(dispatches: number): boolean {
    return dispatches === 0 || this.mayPrefetch(dispatches);
  }

  /** Whether one can be given ahead. */
  mayPrefetch(dispatches: number): boolean {
    return dispatches < MOST_DISPATCHES && this.ongoing < this.maxOngoing && this.endsSoon;
  }

  /** It answered so many requests, each of which took so long. */
  answered(requests: number, runMs: number): void {
    this.#answered.add(requests, this.#clock.now());
    this.#runMs.add(runMs);
  }

  /** It loaded a model in so long. */
  loaded(milliseconds: number): void {
    this.#loadMs.add(milliseconds);
  }
}
