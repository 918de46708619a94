import { InfermuxError, messageOf } from '../../../common/errors.js';
import { iteratorOf } from '../../../common/values/streams.js';
import { unminded } from '../unminded.js';

/** Returns a copy of a value, as it arrives on the other side. Throws for a value that cannot get there. */
export type Copy = (value: unknown) => unknown;

type Items = AsyncIterator<unknown> | Iterator<unknown>;

/**
 * Returns the iterator of a handler's answer that is a stream: an async iterable, or a generator. Undefined for another
 * answer; lists and maps are answers as they are.
 */
export function itemsOf(answer: unknown): Items | undefined {
  if (typeof answer !== 'object' || answer === null) return undefined;
  if (typeof (answer as Partial<AsyncIterable<unknown>>)[Symbol.asyncIterator] === 'function')
    return iteratorOf(answer as AsyncIterable<unknown>);
  const { next, [Symbol.iterator]: iterate } = answer as Partial<IterableIterator<unknown>>;
  return typeof next === 'function' && typeof iterate === 'function' ? iterate.call(answer) : undefined;
}

/** Takes the items of a handler's answer, one after the other, and ends the handler's generator when it is given up. */
export class ItemStream {
  readonly #items: Items;
  readonly #signal: AbortSignal;
  readonly #copy: Copy;

  constructor(items: Items, signal: AbortSignal, copy: Copy) {
    this.#items = items;
    this.#signal = signal;
    this.#copy = copy;
  }

  /**
   * Takes all items.
   *
   * @param taken is given a clone of each. The next one is taken when the promise that it returns, if any, resolves.
   * @throws what the generator throws; InfermuxError `INFERENCE_FAILED` for an item that cannot be cloned.
   */
  async take(taken: (item: unknown) => Promise<void> | undefined): Promise<void> {
    let isEnded = false;
    let ending: Promise<unknown> | undefined;
    const end = () => {
      if (isEnded) return;
      isEnded = true;
      // An error at its end is its own affair.
      ending = unminded((async () => this.#items.return?.())());
    };
    this.#signal.addEventListener('abort', end, { once: true });
    try {
      while (!this.#signal.aborted) {
        const { done, value } = await this.#next();
        if (done === true) {
          isEnded = true;
          return;
        }
        const wait = taken(copyOf(value, this.#copy));
        if (wait !== undefined) await wait;
      }
    } finally {
      this.#signal.removeEventListener('abort', end);
      end();
      await ending?.catch(() => undefined);
    }
  }

  async #next(): Promise<IteratorResult<unknown>> {
    const result = await this.#items.next();
    if (typeof result === 'object' && result !== null) return result;
    throw new InfermuxError(
      'INFERENCE_FAILED',
      'the stream of the handler is no async iterable: next() gave no object',
    );
  }
}

/** A generator that waits for nothing gives others a turn of the event loop after so many items. */
const ITEMS_PER_TURN = 64;

/** The items of an answer that goes as a whole. */
export class CollectedItems {
  /** Empty when they are not kept. */
  readonly items: unknown[] = [];
  readonly #isKept: boolean;
  #sinceTurn = 0;

  constructor(isKept: boolean) {
    this.#isKept = isKept;
  }

  /** @returns a promise when the event loop is to have a turn before the next item. */
  add(item: unknown): Promise<void> | undefined {
    if (this.#isKept) this.items.push(item);
    this.#sinceTurn += 1;
    if (this.#sinceTurn < ITEMS_PER_TURN) return undefined;
    this.#sinceTurn = 0;
    return new Promise(setImmediate);
  }
}

/** Sends items to the calling thread: so many ahead of what the caller has taken, and those that come together together. */
export class ItemSender {
  readonly #send: (items: readonly unknown[]) => void;
  #ahead: number;
  #unsent: unknown[] = [];
  #resume: () => void = () => undefined;

  /** @param ahead items that may be sent before the caller takes any. */
  constructor(ahead: number, send: (items: readonly unknown[]) => void) {
    this.#ahead = ahead;
    this.#send = send;
  }

  /** The caller has taken so many items. */
  pulled(items: number): void {
    this.#ahead += items;
    if (this.#ahead > 0) this.#resume();
  }

  /** @returns a promise while no further item may be sent. */
  add(item: unknown): Promise<void> | undefined {
    // The generator may wait for long before its next item.
    if (this.#unsent.length === 0) setImmediate(() => this.flush());
    this.#unsent.push(item);
    this.#ahead -= 1;
    if (this.#ahead > 0) return undefined;
    this.flush();
    return new Promise((resolve) => {
      this.#resume = resolve;
    });
  }

  /** Sends what there is. */
  flush(): void {
    if (this.#unsent.length === 0) return;
    this.#send(this.#unsent);
    this.#unsent = [];
  }
}

/** Returns a clone. An answer that cannot be cloned fails its request alone. */
export function copyOf(answer: unknown, copy: Copy): unknown {
  // Most answers of this kind are numbers.
  if (typeof answer !== 'object' && typeof answer !== 'function' && typeof answer !== 'symbol') return answer;
  try {
    return copy(answer);
  } catch (cause) {
    const message = `the handler returned what cannot be cloned: ${messageOf(cause)}`;
    throw new InfermuxError('INFERENCE_FAILED', message, { cause });
  }
}
