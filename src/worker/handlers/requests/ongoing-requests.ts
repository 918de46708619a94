import { settlesWithin, systemClock } from '../../../common/clock.js';
import { InfermuxError } from '../../../common/errors.js';
import type { HandlerRequest } from '../../../protocol/messages.js';
import type { ItemSender } from './item-stream.js';

/** A call of the handler that has not been answered. */
export class OngoingCall {
  /** Requests of the call that somebody wants the answers of. */
  wanted: number;
  /** The stream that answers the request, once it has begun. */
  sender: ItemSender | undefined;

  #isAborted = false;
  #controller: AbortController | undefined;
  #giveUp: (() => void) | undefined;

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
    // Nobody takes an item any more: its generator must not rest for ever.
    this.sender?.pulled(Number.POSITIVE_INFINITY);
    this.#giveUp?.();
  }

  /**
   * Resolves with the result of the work, or rejects at once when nobody wants an answer: a handler may ignore its
   * signal, and the requests behind it must not wait for ever.
   *
   * @param goesOn called with the work when it is given up.
   */
  unlessAborted<T>(work: () => Promise<T>, goesOn: (working: Promise<T>) => void): Promise<T> {
    if (this.#isAborted) return Promise.reject(unwanted());
    return new Promise((resolve, reject) => {
      const working = work();
      this.#giveUp = () => {
        reject(unwanted());
        goesOn(working);
      };
      working.then(resolve, reject);
    });
  }
}

function unwanted(): InfermuxError {
  return new InfermuxError('CANCELLED', 'no caller waits for the answer any more');
}

/** What a handler does after it was given up is waited for so long. */
const LONGEST_REST_MS = 10_000;

/** What is under way in a handler, by the tickets of the requests. */
export class OngoingRequests {
  readonly #calls = new Map<number, OngoingCall>();
  readonly #longestRestMs: number;
  /** Calls and loads that were given up, and that the handler has not ended. */
  readonly #rests = new Set<Promise<unknown>>();
  #idleWaiters: (() => void)[] = [];

  /** @param longestRestMs for which the handler may go on with a call that was given up. */
  constructor(longestRestMs = LONGEST_REST_MS) {
    this.#longestRestMs = longestRestMs;
  }

  /** Resolves when the handler has ended all that was given up, or takes too long; undefined without any. */
  get givenUp(): Promise<unknown> | undefined {
    return this.#rests.size === 0 ? undefined : Promise.all(this.#rests);
  }

  /** A call or a load was given up, and the handler still works on it. */
  readonly goesOn = (working: Promise<unknown>): void => {
    const rest: Promise<unknown> = settlesWithin(systemClock, working, this.#longestRestMs)
      .catch(() => undefined)
      .then(() => this.#rests.delete(rest));
    this.#rests.add(rest);
  };

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
