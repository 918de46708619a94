/**
 * Hands values on one by one. Several messages may come in one piece: what follows from one, callbacks of promises
 * included, is done before the next is heard of, as if each came by itself.
 */
export class OneByOne<T> {
  readonly #hear: (value: T) => void;
  readonly #failed: (cause: unknown) => void;
  readonly #waiting: T[] = [];
  #isHearing = false;
  #done: (() => void) | undefined;
  /** A tick comes when all callbacks of promises have been called. */
  readonly #afterCallbacks = () => process.nextTick(this.#heard);
  readonly #heard = () => {
    if (this.#waiting.length > 0) {
      this.#hand(this.#waiting.shift() as T);
      return;
    }
    this.#isHearing = false;
    this.#done?.();
  };

  /** @param failed called with what `hear` throws. */
  constructor(hear: (value: T) => void, failed: (cause: unknown) => void) {
    this.#hear = hear;
    this.#failed = failed;
  }

  add(value: T): void {
    if (this.#isHearing) this.#waiting.push(value);
    else this.#hand(value);
  }

  /** Calls back when all values were handed on. No more come. */
  whenDone(done: () => void): void {
    if (this.#isHearing) this.#done = done;
    else done();
  }

  #hand(value: T): void {
    this.#isHearing = true;
    try {
      this.#hear(value);
    } catch (cause) {
      this.#failed(cause);
    }
    queueMicrotask(this.#afterCallbacks);
  }
}
