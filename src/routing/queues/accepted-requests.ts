import type { Clock } from '../../common/clock.js';
import { InfermuxError } from '../../common/errors.js';
import type { PendingRequest, RoutedResult } from '../pending-request.js';

export interface AcceptedRequestsObserver {
  /** There is work from now on, and the process must stay up for it. */
  busy(): void;
  /** There is no work from now on. */
  idle(): void;
  /** The request is answered with an error. */
  rejected(request: PendingRequest, error: InfermuxError): void;
  /** The request has its answer and does not count any more. */
  settled(request: PendingRequest): void;
}

/** The accepted requests without an answer. Each gets one: by a result, an error, its signal or its deadline. */
export class AcceptedRequests {
  readonly #clock: Clock;
  readonly #observer: AcceptedRequestsObserver;
  /**
   * In no order; each request knows its position. A Set would be simpler, but its outgrown tables keep answered
   * requests from being collected cheaply, which cost a quarter of the calling thread's time.
   */
  readonly #requests: PendingRequest[] = [];
  #idleWaiters: (() => void)[] = [];
  /** Callers of `untilNoneOf`, with the requests that they still wait for. */
  readonly #waiters = new Set<{ readonly requests: Set<PendingRequest>; readonly resolve: () => void }>();

  constructor(clock: Clock, observer: AcceptedRequestsObserver) {
    this.#clock = clock;
    this.#observer = observer;
  }

  has(request: PendingRequest): boolean {
    return request.position !== undefined;
  }

  get isEmpty(): boolean {
    return this.#requests.length === 0;
  }

  /** In order of arrival. */
  all(): PendingRequest[] {
    return [...this.#requests].sort((left, right) => left.sequence - right.sequence);
  }

  /** Resolves when every request has its answer. */
  untilNone(): Promise<void> {
    if (this.#requests.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /** Resolves when all present requests that may use the model have their answer. A handler may use any model. */
  untilNoneOf(modelKey: string): Promise<void> {
    const using = ({ model, payload }: PendingRequest) => model.key === modelKey || payload !== undefined;
    const requests = new Set(this.#requests.filter(using));
    if (requests.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.add({ requests, resolve }));
  }

  /** @returns false when the request is over at once: its signal is aborted, or its deadline has passed. */
  add(request: PendingRequest): boolean {
    if (this.#requests.length === 0) this.#observer.busy();
    request.position = this.#requests.push(request) - 1;
    const { signal, deadline, acceptedAt } = request;
    if (signal?.aborted === true) this.#cancel(request);
    else if (deadline !== undefined && deadline <= acceptedAt) this.#expire(request);
    else this.#arm(request);
    return this.has(request);
  }

  resolve(request: PendingRequest, result: RoutedResult): void {
    if (!this.#leave(request)) return;
    request.resolve(request.read(result));
    this.#settled(request);
  }

  reject(request: PendingRequest, error: InfermuxError): void {
    if (!this.#leave(request)) return;
    request.payload?.abandon();
    this.#observer.rejected(request, error);
    request.reject(error);
    this.#settled(request);
  }

  #arm(request: PendingRequest): void {
    const { signal, deadline, acceptedAt, cleanUp } = request;
    if (signal === undefined && deadline === undefined) return;
    const cancel = () => this.#cancel(request);
    signal?.addEventListener('abort', cancel, { once: true });
    const cancelTimer =
      deadline === undefined ? undefined : this.#clock.schedule(() => this.#expire(request), deadline - acceptedAt);
    request.cleanUp = () => {
      signal?.removeEventListener('abort', cancel);
      cancelTimer?.();
      cleanUp?.();
    };
  }

  #cancel(request: PendingRequest): void {
    const cause: unknown = request.signal?.reason;
    this.reject(request, new InfermuxError('CANCELLED', 'the request was cancelled', { cause }));
  }

  #expire(request: PendingRequest): void {
    const waitedMs = Math.round(this.#clock.now() - request.acceptedAt);
    const isGiven = request.attempts > 0 && !request.isWaiting;
    const where = isGiven ? 'while a replica worked on it' : 'while it waited for a replica';
    this.reject(request, new InfermuxError('DEADLINE_EXCEEDED', `the deadline passed after ${waitedMs} ms, ${where}`));
  }

  /** @returns false when the request already has its answer. */
  #leave(request: PendingRequest): boolean {
    const { position } = request;
    const last = this.#requests.at(-1);
    if (position === undefined || last === undefined) return false;
    this.#requests[position] = last;
    last.position = position;
    this.#requests.pop();
    request.position = undefined;
    request.cleanUp?.();
    return true;
  }

  #settled(request: PendingRequest): void {
    this.#observer.settled(request);
    if (this.#waiters.size > 0) this.#endWaits(request);
    if (this.#requests.length > 0) return;
    this.#observer.idle();
    for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  #endWaits(request: PendingRequest): void {
    for (const waiter of this.#waiters) {
      waiter.requests.delete(request);
      if (waiter.requests.size > 0) continue;
      this.#waiters.delete(waiter);
      waiter.resolve();
    }
  }
}
