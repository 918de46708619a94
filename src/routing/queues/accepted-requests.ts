import type { Clock } from '../../common/clock.js';
import { DenseList } from '../../common/dense-list.js';
import { InfermuxError } from '../../common/errors.js';
import { TurnPortions } from '../../common/turn-portions.js';
import { isSought, type PendingRequest, type RoutedResult } from '../pending-request.js';
import { AbortSignals } from './abort-signals.js';

export interface AcceptedRequestsObserver {
  /** There is work from now on, and the process must stay up for it. */
  busy(): void;
  /** There is no work from now on. */
  idle(): void;
  /** A request is over that is in no queue: a replica may still work on it. */
  givenUp(): void;
  /** A waiting request is over, and must leave its queue. */
  left(request: PendingRequest): void;
  /** The request is answered with an error. */
  rejected(request: PendingRequest, error: InfermuxError): void;
}

/**
 * A caller that is answered is likely to send as many bytes again, and then they are copied. So many take as long as the
 * telling of an error.
 */
const BYTES_A_PIECE = 32_768;

/** Somebody who waits for the answers of some requests. */
interface Waiter {
  /** Number of those that have no answer. */
  left: number;
  readonly resolve: () => void;
}

/**
 * The accepted requests without an answer. Each gets one: by a result, an error, its signal or its deadline.
 *
 * One event may end any number of requests: a signal that they share, deadlines that pass together, an outage. All are
 * over at once, so that no replica is given any of them, and nothing else can answer them. But their callers are told
 * in portions, because making and handling so many errors would hold the event loop. So are callers who have sent large
 * tensors, because of the copies of their next ones.
 */
export class AcceptedRequests {
  readonly #clock: Clock;
  readonly #observer: AcceptedRequestsObserver;
  readonly #requests = new DenseList<PendingRequest>();
  /** Requests that are over, but whose callers have not been told. */
  #untold = 0;
  readonly #tellings: TurnPortions;
  readonly #signals = new AbortSignals((request) => this.#cancel(request));
  #idleWaiters: (() => void)[] = [];
  /** Callers of `untilNoneOf`, by the requests that they still wait for. */
  readonly #waiters = new Map<PendingRequest, Waiter[]>();

  constructor(clock: Clock, observer: AcceptedRequestsObserver) {
    this.#clock = clock;
    this.#observer = observer;
    this.#tellings = new TurnPortions(clock);
  }

  /** Whether the request can still be answered. */
  has(request: PendingRequest): boolean {
    return request.position !== undefined;
  }

  /** Those that can still be answered. */
  get size(): number {
    return this.#requests.items.length;
  }

  /** Whether all of them are for the model. */
  areAllOf(modelKey: string): boolean {
    return this.#requests.items.every(({ model }) => model.key === modelKey);
  }

  /** Whether every request has its answer. */
  get isEmpty(): boolean {
    return this.size + this.#untold === 0;
  }

  /** Those that can still be answered, in order of arrival. */
  all(): PendingRequest[] {
    return [...this.#requests.items].sort((left, right) => left.sequence - right.sequence);
  }

  /** Resolves when every request has its answer. */
  untilNone(): Promise<void> {
    if (this.isEmpty) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Resolves when no present request that may use the model can still be answered. A handler may use any model. */
  untilNoneOf(modelKey: string): Promise<void> {
    const using = ({ model, payload }: PendingRequest) => model.key === modelKey || payload !== undefined;
    const requests = this.#requests.items.filter(using);
    if (requests.length === 0) return Promise.resolve();
    return new Promise((resolve) => {
      const waiter: Waiter = { left: requests.length, resolve };
      for (const request of requests) {
        const waiters = this.#waiters.get(request);
        if (waiters === undefined) this.#waiters.set(request, [waiter]);
        else waiters.push(waiter);
      }
    });
  }

  /** @returns false when the request is over at once: its signal is aborted, or its deadline has passed. */
  add(request: PendingRequest): boolean {
    if (this.isEmpty) this.#observer.busy();
    this.#requests.add(request);
    const { signal, deadline, acceptedAt } = request;
    if (signal?.aborted === true) this.#cancel(request);
    else if (deadline !== undefined && deadline <= acceptedAt) this.#expire(request);
    else this.#arm(request);
    return this.has(request);
  }

  resolve(request: PendingRequest, result: RoutedResult): void {
    if (!this.#leave(request)) return;
    // Before the result is used for the next request.
    const value = request.read(result);
    if (request.apartBytes === 0) {
      request.resolve(value);
      this.#settled(request);
    } else {
      const pieces = Math.ceil(request.apartBytes / BYTES_A_PIECE);
      this.#tell(() => request.resolve(value), request, pieces);
    }
  }

  /** @param errorOf makes the error when the caller is told, at once or in one of the next turns of the event loop. */
  reject(request: PendingRequest, errorOf: () => InfermuxError): void {
    const isGiven = !request.isWaiting;
    if (!this.#leave(request)) return;
    if (isGiven) this.#observer.givenUp();
    this.#tell(() => {
      const error = errorOf();
      request.payload?.abandoned?.();
      this.#observer.rejected(request, error);
      request.reject(error);
    }, request);
  }

  /** Tells a caller in its turn. @param pieces how much it counts for: see {@link TurnPortions}. */
  #tell(telling: () => void, request: PendingRequest, pieces?: number): void {
    this.#untold += 1;
    this.#tellings.do(() => {
      this.#untold -= 1;
      telling();
      this.#settled(request);
    }, pieces);
  }

  #arm(request: PendingRequest): void {
    const { signal, deadline, acceptedAt, cleanUp } = request;
    if (signal === undefined && deadline === undefined) return;
    const stopListening = signal === undefined ? undefined : this.#signals.listen(signal, request);
    const cancelTimer =
      deadline === undefined ? undefined : this.#clock.schedule(() => this.#expire(request), deadline - acceptedAt);
    request.cleanUp = () => {
      stopListening?.();
      cancelTimer?.();
      cleanUp?.();
    };
  }

  #cancel(request: PendingRequest): void {
    this.reject(request, () => {
      const cause = reasonOf(request.signal);
      return new InfermuxError('CANCELLED', 'the request was cancelled', { cause });
    });
  }

  #expire(request: PendingRequest): void {
    const waitedMs = Math.round(this.#clock.now() - request.acceptedAt);
    const isGiven = request.attempts > 0 && !request.isWaiting;
    const waiting = isSought(request.model) ? 'while its model was looked for' : 'while it waited for a replica';
    const where = isGiven ? 'while a replica worked on it' : waiting;
    const message = `the deadline passed after ${waitedMs} ms, ${where}`;
    this.reject(request, () => new InfermuxError('DEADLINE_EXCEEDED', message));
  }

  /** @returns false when the request is already over. */
  #leave(request: PendingRequest): boolean {
    if (!this.#requests.remove(request)) return false;
    request.cleanUp?.();
    if (request.isWaiting) this.#observer.left(request);
    return true;
  }

  #settled(request: PendingRequest): void {
    if (this.#waiters.size > 0) this.#endWaits(request);
    if (!this.isEmpty) return;
    this.#observer.idle();
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  #endWaits(request: PendingRequest): void {
    for (const waiter of this.#waiters.get(request) ?? []) {
      waiter.left -= 1;
      if (waiter.left === 0) waiter.resolve();
    }
    this.#waiters.delete(request);
  }
}

/** A signal may be the caller's own, and its getter may throw. */
function reasonOf(signal: AbortSignal | undefined): unknown {
  try {
    return signal?.reason;
  } catch (error) {
    return error;
  }
}
