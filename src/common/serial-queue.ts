/** Work that is done one after the other, in the order in which it was asked for. */
export class SerialQueue {
  #last: Promise<unknown> = Promise.resolve();

  /** @returns what the work returns; what it throws keeps nobody else from their turn. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  /** Resolves when all that was asked for by now is done. */
  async untilDone(): Promise<void> {
    await this.#last;
  }
}
