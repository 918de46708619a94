import type { Clock } from '../../../common/clock.js';
import type { ModelName } from '../../../contracts/model-reference.js';
import type { ModelState, ReplicaView, RoutingStats } from '../../../contracts/request-router.js';
import type { RoutedAnswer, RoutedDispatch } from '../../batches/routed-dispatch.js';
import { DecayedSum } from '../../estimates/decayed-sum.js';
import { MovingAverage } from '../../estimates/moving-average.js';
import { isNested, namesMethod, type RoutedModel } from '../../pending-request.js';
import type { ModelQueue } from '../../queues/model-queue.js';
import type { IndexedReplica } from './replica-index.js';

/** A running replica, as the dispatcher needs it. */
export interface RoutableReplica
  extends Pick<ReplicaView, 'id' | 'deployment' | 'labels' | 'ongoing' | 'models' | 'freeBytes' | 'freeModels'> {
  /** Dispatches given to it and not finished. */
  readonly dispatches: number;
  /** True from the order of a load to its end: the thread is blocked. */
  readonly isLoading: boolean;
  /** Replicas of the engine with unfinished requests, in all deployments, other than this one. */
  readonly othersAtWork: number;
  /** Whether it takes short runs only. Such a replica is none that routers choose from. */
  readonly isExpress: boolean;
  /** What its handler is given in one call; undefined when it runs models. */
  readonly handles: 'requests' | 'batches' | undefined;
  /** Dispatches whose handler waits for requests that it has made. */
  readonly awaiting: number;
  /** Whether a load of the model was ordered and has not ended. */
  isTrying(modelKey: string): boolean;
  /** The model that the thread is loading at this moment. */
  readonly loadUnderWay: ModelName | undefined;
  /** Whether it died, or was given up because it did not stop in time. */
  readonly isFailed: boolean;
  /** Milliseconds that a dispatch may take on its way: it is given so long before the one at work is expected to end. */
  readonly leadMs: number;
  /** Whether it is killed for a run that nobody waits for any more, when other requests wait. */
  readonly killsCancelled: boolean;
  /** Ends it: what it was given is rejected with `REPLICA_FAILED`. */
  abandon(cause: Error): void;
  /** Resolves when its thread is gone. */
  readonly gone: Promise<unknown>;
  /** Keys of models that are never evicted. */
  readonly pinned: ReadonlySet<string>;
  /** What its handler's `recordRoutingStats` returned last, if it did. */
  readonly ownStats: Readonly<Record<string, unknown>> | undefined;
  /**
   * Gives it requests. If the model is not among `models`, it is from now on, as loading. Rejects with `REPLICA_FAILED`
   * when the replica died or stopped before it answered: another replica may be asked then.
   */
  run(dispatch: RoutedDispatch): PromiseLike<RoutedAnswer>;
  /**
   * Loads the model ahead of requests. It is among `models` from now on, as loading.
   *
   * @param how.spare keys of models that may be evicted before others.
   */
  load(model: RoutedModel, how: { readonly pin: boolean; readonly spare: readonly string[] }): PromiseLike<void>;
  /** Releases the session with this key after its last use. */
  unload(key: string, reason: 'unloaded'): PromiseLike<unknown>;
}

/**
 * The stay of a replica with a model that it has loaded. The replica first serves all requests that waited for the
 * model when the load was ordered, and no others, so that no model waits without end (gated service, as in polling
 * systems).
 */
interface Visit {
  readonly queue: ModelQueue;
  /** Requests with this sequence number or a higher one take their turn as usual. */
  readonly untilSequence: number;
}

/** Requests that a handler has at once if nothing else is said, as in Ray Serve. */
export const CONCURRENT_REQUESTS = 5;
/** One that runs and one that is prefetched. */
const MOST_DISPATCHES = 2;
/** Work and throughput are averaged over about this time. */
export const WORK_AVERAGE_MS = 10_000;

/** A running replica that requests may go to, with the dispatches that it was given. */
export class Candidate<R extends RoutableReplica = RoutableReplica> implements IndexedReplica {
  readonly replica: R;
  readonly #clock: Clock;
  readonly #answered = new DecayedSum(WORK_AVERAGE_MS);
  /** Milliseconds that its runs took: per millisecond, the fraction of time in which it is busy. */
  readonly busy = new DecayedSum(WORK_AVERAGE_MS);
  readonly #runMs = new MovingAverage();
  readonly #loadMs = new MovingAverage();
  /**
   * Milliseconds that each unanswered dispatch is expected to take, without its load; the first one is running, or all
   * are.
   */
  readonly expectedMs: number[] = [];
  /** Clock time at which the first one began to run, after its load. */
  begunAt = 0;
  /** Loads that were ordered and have not ended: the clock time of the expected end, by model key. */
  readonly loads = new Map<string, number>();
  /** Clock time of the last use of each of its models here, by model key. */
  readonly usedAt = new Map<string, number>();
  /**
   * Bytes of the wide sessions that it has or is loading, by key. They leave before others when room is needed, so they
   * count as free.
   */
  readonly wideBytes = new Map<string, number>();
  /** The queue that the last dispatch came from. */
  last: ModelQueue | undefined;
  /** Whether the running dispatch is expected to end soon. */
  endsSoon = false;
  cancelTimer: (() => void) | undefined;
  visit: Visit | undefined;
  /** Dispatches that run and must run alone. There is more than one only while the others wait for nested requests. */
  lone = 0;
  /** Dispatches that run beside batches: requests that name a method of the handler. */
  beside = 0;
  /** Most ongoing requests. */
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

  /** Whether it works on several dispatches at once, of one request each. */
  get isConcurrent(): boolean {
    return this.replica.handles === 'requests';
  }

  /** Whether it takes batches one at a time, and beside them single requests. */
  get takesBatches(): boolean {
    return this.replica.handles === 'batches';
  }

  /** Whether a request that runs beside batches would begin at once. */
  get hasRoomBeside(): boolean {
    return this.takesBatches && this.lone === 0 && this.beside < Math.min(CONCURRENT_REQUESTS, this.maxOngoing);
  }

  get models(): ReadonlyMap<string, ModelState> {
    return this.replica.models;
  }

  isTrying(modelKey: string): boolean {
    return this.replica.isTrying(modelKey);
  }

  get freeBytes(): number {
    let bytes = this.replica.freeBytes;
    for (const each of this.wideBytes.values()) bytes += each;
    return bytes;
  }

  get freeModels(): number {
    return this.replica.freeModels + this.wideBytes.size;
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

  /** Whether one more session of so many bytes needs no eviction, not even of a wide session. */
  hasFree(bytes: number): boolean {
    return this.replica.freeModels >= 1 && this.replica.freeBytes >= bytes;
  }

  /** Whether it would begin one more dispatch at once, whatever its model, if it works on so many. */
  mayBegin(dispatches: number): boolean {
    // Those beside batches count until they are answered, so there may be more of them than the replica has.
    if (dispatches <= 0) return true;
    return this.isConcurrent && this.lone === 0 && dispatches < this.maxOngoing;
  }

  /** Whether it would begin a dispatch now. */
  get canBegin(): boolean {
    return !this.replica.isLoading && this.mayBegin(this.replica.dispatches - this.beside);
  }

  /**
   * Dispatches that keep it from the queue's next request. One that waits for a request of its own does not keep it from
   * such requests.
   */
  dispatchesBefore({ head }: ModelQueue): number {
    const { dispatches, awaiting } = this.replica;
    if (this.takesBatches && head !== undefined && namesMethod(head)) return this.hasRoomBeside ? 0 : dispatches;
    // Those beside may be those that wait.
    return dispatches - Math.max(this.beside, head !== undefined && isNested(head) ? awaiting : 0);
  }

  /** Whether it can be given one more dispatch, if it has this many. */
  mayTake(dispatches: number): boolean {
    return this.mayBegin(dispatches) || this.mayPrefetch(dispatches);
  }

  /** Whether it can be given a dispatch ahead, if it has this many. */
  mayPrefetch(dispatches: number): boolean {
    return dispatches < MOST_DISPATCHES && this.ongoing < this.maxOngoing && this.endsSoon;
  }

  /** The model appeared here, was loaded, or disappeared. @param queue the model's, if there is one. */
  modelChanged(modelKey: string, queue: ModelQueue | undefined): void {
    const now = this.#clock.now();
    const state = this.models.get(modelKey);
    if (this.loads.delete(modelKey)) {
      this.begunAt = now;
      // Nobody waits for a wide session.
      if (state !== 'loading' && modelKey === queue?.modelKey) queue.loadEnded(now);
    }
    if (state === undefined) this.usedAt.delete(modelKey);
    else this.usedAt.set(modelKey, now);
    if (state === 'loading') this.loads.set(modelKey, now + (queue?.times.loadMs ?? 0));
  }

  /** It answered these requests, each in `runMs`. */
  answered(requests: number, runMs: number): void {
    this.#answered.add(requests, this.#clock.now());
    this.#runMs.add(runMs);
  }

  /** It loaded a model in this time. */
  loaded(milliseconds: number): void {
    this.#loadMs.add(milliseconds);
  }
}
