import { InfermuxError } from '../../common/errors.js';
import type { HandlerRequest } from '../../protocol/messages.js';
import type { ItemSender } from './item-stream.js';

/** A call of the handler that has not been answered. */
export class OngoingCall {
  /** Requests of the call that somebody wants the answers of. */
  wanted: number;
  /** The stream that answers the request, once it has begun. */
  sender: ItemSender | undefined;

  #isAborted = false;
  #controller: AbortController | undefined;
  #reject: ((error: InfermuxError) => void) | undefined;

  constructor(requests: number) {
    this.wanted = requests;
  }

  /** Aborted when nobody wants an answer. Few handlers look at it, and it takes as long to make as to answer them. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#isAborted) this.#controller.abort();
    return this.#controller.signal;
  }

  abort(): void {
    this.#isAborted = true;
    this.#controller?.abort();
    this.#reject?.(unwanted());
  }

  /**
   * Resolves with the result of the work, or rejects at once when nobody wants an answer: a handler may ignore its
   * signal, and the requests behind it must not wait for ever.
   */
  unlessAborted<T>(work: () => Promise<T>): Promise<T> {
    if (this.#isAborted) return Promise.reject(unwanted());
    return new Promise((resolve, reject) => {
      this.#reject = reject;
      work().then(resolve, reject);
    });
  }
}

function unwanted(): InfermuxError {
  return new InfermuxError('CANCELLED', 'nobody wants the answer any more');
}

/** What is under way in a handler, by the tickets of the requests. */
export class OngoingRequests {
  readonly #calls = new Map<number, OngoingCall>();
  #idleWaiters: (() => void)[] = [];

  /** The handler is about to be called for these requests. */
  begin(requests: readonly HandlerRequest[]): OngoingCall {
    const call = new OngoingCall(requests.length);
    for (const { ticket } of requests) this.#calls.set(ticket, call);
    return call;
  }

  /** A stream answers the request. */
  streams(ticket: number, sender: ItemSender): void {
    const call = this.#calls.get(ticket);
    if (call !== undefined) call.sender = sender;
  }

  end(requests: readonly HandlerRequest[]): void {
    for (const { ticket } of requests) this.#calls.delete(ticket);
    if (this.isIdle) for (const resolve of this.#idleWaiters.splice(0)) resolve();
  }

  /** Nobody wants the answer any more. When that is so for all requests of a call, its signal is aborted. */
  cancel(ticket: number): void {
    const call = this.#calls.get(ticket);
    if (call === undefined) return;
    call.wanted -= 1;
    if (call.wanted === 0) call.abort();
  }

  cancelAll(): void {
    for (const call of this.#calls.values()) call.abort();
  }

  /** The caller has taken so many items of the stream. */
  pulled(ticket: number, items: number): void {
    this.#calls.get(ticket)?.sender?.pulled(items);
  }

  get isIdle(): boolean {
    return this.#calls.size === 0;
  }

  /** Resolves when the handler has no request. */
  untilIdle(): Promise<void> {
    if (this.isIdle) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }
}
