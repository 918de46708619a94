import { InfermuxError } from '../common/errors.js';

/** The calls of a client that have no answer yet: its end waits for them. */
export class CallsUnderWay {
  #count = 0;
  #isClosed = false;
  #ended: (() => void) | undefined;

  /** @throws InfermuxError `ENGINE_CLOSED` by rejection once the client is closed. */
  async track<T>(call: () => Promise<T>): Promise<T> {
    this.#begin();
    try {
      return await call();
    } finally {
      this.#end();
    }
  }

  /** {@link track} for a stream, from its first item to its end. */
  async *trackItems<T>(items: () => AsyncIterable<T>): AsyncGenerator<T, undefined> {
    this.#begin();
    try {
      yield* items();
    } finally {
      this.#end();
    }
    return undefined;
  }

  /** Takes no more calls, and resolves when all have ended. */
  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#count > 0) await new Promise<void>((resolve) => (this.#ended = resolve));
  }

  #begin(): void {
    if (this.#isClosed) throw new InfermuxError('ENGINE_CLOSED', 'the client is closed');
    this.#count += 1;
  }

  #end(): void {
    this.#count -= 1;
    if (this.#count === 0) this.#ended?.();
  }
}
