import { InfermuxError } from '../../common/errors.js';
import type { RequestStream } from '../../routing/pending-request.js';

/** Items that a replica may send before the caller takes any: as many as lie in memory at most. */
const MOST_AHEAD = 64;

/** Codes of errors with which the caller itself ends its request, unless a handler gives them: it wants nothing more. */
const OWN_ENDINGS: readonly string[] = ['CANCELLED', 'DEADLINE_EXCEEDED'];

/** Somebody who waits for the next item. */
interface Waiter<T> {
  resolve(result: IteratorResult<T, undefined>): void;
  reject(error: unknown): void;
}

/** The items of a handler's answer, in the order in which the handler gives them. It can be iterated once. */
export interface AnswerStream<Item> extends AsyncIterableIterator<Item, undefined> {
  next(): Promise<IteratorResult<Item, undefined>>;
  /** Ends the request: the handler's generator ends where it is. */
  return(): Promise<IteratorResult<Item, undefined>>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** An answer whose items come from a replica. */
export class HandlerStream<T> implements AnswerStream<T>, RequestStream {
  readonly ahead = MOST_AHEAD;
  readonly #begin: (stream: HandlerStream<T>, signal: AbortSignal) => Promise<unknown>;
  readonly #cancelled = new AbortController();
  readonly #waiters: Waiter<T>[] = [];
  #items: T[] = [];
  /** Index of the next item in `#items`. */
  #next = 0;
  /** Items that were taken, and the replica does not know it. */
  #taken = 0;
  #pull: (items: number) => void = () => undefined;
  #state: 'new' | 'running' | 'ended' = 'new';
  #hasBegun = false;
  #isHandlersError = false;
  readonly #signal: AbortSignal | undefined;
  readonly #abort = () => this.#cancelled.abort(this.#signal?.reason);
  /** Why the stream ends, until that is said. */
  #failure: { readonly error: unknown } | undefined;

  /**
   * @param begin sends the request. Called when the first item is asked for.
   * @param signal the caller's.
   */
  constructor(
    begin: (stream: HandlerStream<T>, signal: AbortSignal) => Promise<unknown>,
    signal: AbortSignal | undefined,
  ) {
    this.#begin = begin;
    this.#signal = signal;
  }

  get hasBegun(): boolean {
    return this.#hasBegun;
  }

  connected(pull: (items: number) => void): void {
    this.#pull = pull;
  }

  deliver(items: readonly unknown[]): void {
    this.#hasBegun = true;
    if (this.#state !== 'running') return;
    // The list that is left behind is empty, most of the time.
    this.#items = this.#next === this.#items.length ? [...(items as T[])] : [...this.#rest(), ...(items as T[])];
    this.#next = 0;
    while (this.#waiters.length > 0 && this.#next < this.#items.length)
      this.#waiters.shift()?.resolve({ done: false, value: this.#take() });
  }

  failed(): void {
    this.#isHandlersError = true;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#state === 'new') this.#start();
    if (this.#next < this.#items.length) return Promise.resolve({ done: false, value: this.#take() });
    if (this.#state === 'ended') return this.#end();
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  async return(): Promise<IteratorResult<T, undefined>> {
    this.#cancelled.abort(new InfermuxError('CANCELLED', 'the stream was ended by its reader'));
    this.#settle(undefined);
    this.#failure = undefined;
    this.#drop();
    return { done: true, value: undefined };
  }

  #start(): void {
    this.#state = 'running';
    if (this.#signal?.aborted === true) this.#abort();
    else this.#signal?.addEventListener('abort', this.#abort, { once: true });
    this.#begin(this, this.#cancelled.signal).then(
      () => this.#settle(undefined),
      (error: unknown) => {
        const isOwn = error instanceof InfermuxError && OWN_ENDINGS.includes(error.code) && !this.#isHandlersError;
        if (isOwn) this.#drop();
        this.#settle({ error });
      },
    );
  }

  #take(): T {
    const item = this.#items[this.#next] as T;
    this.#next += 1;
    if (this.#next === this.#items.length) this.#drop();
    this.#taken += 1;
    // In portions: each is a message.
    if (2 * this.#taken >= MOST_AHEAD && this.#state === 'running') {
      this.#pull(this.#taken);
      this.#taken = 0;
    }
    return item;
  }

  #rest(): T[] {
    return this.#items.slice(this.#next);
  }

  #drop(): void {
    this.#items = [];
    this.#next = 0;
  }

  #settle(failure: { readonly error: unknown } | undefined): void {
    if (this.#state === 'ended') return;
    this.#state = 'ended';
    this.#signal?.removeEventListener('abort', this.#abort);
    // Its shadows end with it.
    this.#cancelled.abort(new InfermuxError('CANCELLED', 'the stream has ended'));
    this.#failure = failure;
    for (const { resolve, reject } of this.#waiters.splice(0)) this.#end().then(resolve, reject);
  }

  /** The error is said once. */
  async #end(): Promise<IteratorResult<T, undefined>> {
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure.error;
    return { done: true, value: undefined };
  }
}
