import type { Clock } from '../../common/clock.js';
import { DenseSet } from '../../common/dense-set.js';
import { InfermuxError } from '../../common/errors.js';
import { DrainRate } from '../estimates/drain-rate.js';
import type { PendingRequest } from '../pending-request.js';

/** Without a limit, shadow requests are dropped when more requests than this wait. */
const UNLIMITED_BESIDE_SHADOWS = 2_048;

export interface QueueLimitEnvironment {
  /** Places now the requests that would be placed at the end of the turn: some may not have to wait. */
  placeNow(): void;
  /** Answers a waiting request with an error. */
  reject(request: PendingRequest, error: InfermuxError): void;
}

/** Counts the waiting requests, and refuses requests beyond the limit. Shadow requests are dropped first. */
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

  /** Number of waiting requests. */
  get queued(): number {
    return this.#queued;
  }

  /** Sets the limit from now on. Requests that already wait may go on. */
  configure(maxQueuedRequests: number): void {
    this.#maxQueuedRequests = maxQueuedRequests;
  }

  /** The request begins to wait. */
  entered(request: PendingRequest): void {
    this.#queued += 1;
    if (request.isShadow) this.#shadows.add(request);
  }

  /** The request no longer waits, whatever the reason. */
  left(request: PendingRequest): void {
    this.#queued -= 1;
    if (request.isShadow) this.#shadows.delete(request);
  }

  /** A dispatch of `requests` requests left for a replica. */
  drained(requests: number): void {
    this.#drainRate.drained(requests, this.#queued);
  }

  /** Drops shadow requests while the queue is more than half full. */
  shedShadows(): void {
    if (this.#shadows.items.length === 0) return;
    const most = this.#maxQueuedRequests === -1 ? UNLIMITED_BESIDE_SHADOWS : this.#maxQueuedRequests / 2;
    if (this.#queued > most) this.#environment.placeNow();
    while (this.#queued > most) {
      const last = this.#shadows.items.at(-1);
      if (last === undefined) return;
      const message = 'the shadow request was dropped: the queue is more than half full (maxQueuedRequests)';
      this.#environment.reject(last, new InfermuxError('QUEUE_FULL', message));
    }
  }

  /** Refuses the latest request if it exceeds the limit. @returns whether it was refused. */
  refuseOverflow(request: PendingRequest): boolean {
    const most = this.#maxQueuedRequests;
    if (most === -1 || this.#queued <= most) return false;
    this.#environment.placeNow();
    if (!request.isWaiting || this.#queued <= most) return false;
    const retryAfterMs = this.#drainRate.retryAfterMs(this.#queued);
    const message = `${most} requests wait already (maxQueuedRequests); try again in ${retryAfterMs} ms`;
    this.#environment.reject(request, new InfermuxError('QUEUE_FULL', message, { retryAfterMs }));
    return true;
  }
}
