import type { Clock } from '../../common/clock.js';
import { DenseSet } from '../../common/dense-set.js';
import { InfermuxError } from '../../common/errors.js';
import { DrainRate } from '../estimates/drain-rate.js';
import type { PendingRequest } from '../pending-request.js';

/** So many requests may wait beside shadow requests where there is no limit. */
const UNLIMITED_BESIDE_SHADOWS = 2_048;

export interface QueueLimitEnvironment {
  /** Gives out at once what is to be given out at the end of the turn: some of what came may not have to wait. */
  placeNow(): void;
  /** Answers a request that waits with an error. */
  reject(request: PendingRequest, error: InfermuxError): void;
}

/** Counts the requests that wait, and refuses those beyond the limit. Shadow requests are dropped first. */
export class QueueLimit {
  readonly #environment: QueueLimitEnvironment;
  readonly #drainRate: DrainRate;
  readonly #shadows = new DenseSet<PendingRequest>();
  #maxQueuedRequests: number;
  #queued = 0;

  /** @param maxQueuedRequests -1 for no limit. */
  constructor(maxQueuedRequests: number, clock: Clock, environment: QueueLimitEnvironment) {
    this.#maxQueuedRequests = maxQueuedRequests;
    this.#environment = environment;
    this.#drainRate = new DrainRate(() => clock.now());
  }

  /** Requests that wait. */
  get queued(): number {
    return this.#queued;
  }

  /** Shadow requests that wait. */
  get shadows(): readonly PendingRequest[] {
    return this.#shadows.items;
  }

  /** From now on. Requests that wait already may go on. */
  configure(maxQueuedRequests: number): void {
    this.#maxQueuedRequests = maxQueuedRequests;
  }

  /** The request begins to wait. */
  entered(request: PendingRequest): void {
    this.#queued += 1;
    if (request.isShadow) this.#shadows.add(request);
  }

  /** The request waits no more, for whatever reason. */
  left(request: PendingRequest): void {
    this.#queued -= 1;
    if (request.isShadow) this.#shadows.delete(request);
  }

  /** So many requests left together for a replica. */
  drained(requests: number): void {
    this.#drainRate.drained(requests, this.#queued);
  }

  /** Drops the shadow requests that came last when half of the places to wait are taken. */
  shedShadows(): void {
    if (this.#shadows.items.length === 0) return;
    const most = this.#maxQueuedRequests === -1 ? UNLIMITED_BESIDE_SHADOWS : this.#maxQueuedRequests / 2;
    if (this.#queued > most) this.#environment.placeNow();
    while (this.#queued > most) {
      const last = this.#shadows.items.at(-1);
      if (last === undefined) return;
      const message = 'the copy of a request was dropped: half of the places to wait are taken (maxQueuedRequests)';
      this.#environment.reject(last, new InfermuxError('QUEUE_FULL', message));
    }
  }

  /** Refuses the request that came last if it is one too many. @returns whether it did. */
  refuseOverflow(request: PendingRequest): boolean {
    const most = this.#maxQueuedRequests;
    if (most === -1 || this.#queued <= most) return false;
    this.#environment.placeNow();
    if (!request.isWaiting) return false;
    const retryAfterMs = this.#drainRate.retryAfterMs(this.#queued);
    const message = `${most} requests wait already (maxQueuedRequests); try again in ${retryAfterMs} ms`;
    this.#environment.reject(request, new InfermuxError('QUEUE_FULL', message, { retryAfterMs }));
    return true;
  }
}
