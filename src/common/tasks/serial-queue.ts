/** Runs pieces of work one after the other, in the order of the calls. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve();

  /** @returns what the work returns. When it throws, the next piece of work still gets its turn. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Resolves when all work requested by now is done. */
  async untilDone(): Promise<void> {
    await this.#last;
  }
}
