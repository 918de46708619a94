/** The last promise of what is done for each key, as long as it is not settled; as they are kept none rejects. */
export class Tails {
  readonly #tails = new Map<string, Promise<unknown>>();

  get size(): number {
    return this.#tails.size;
  }

  has(key: string): boolean {
    return this.#tails.has(key);
  }

  get(key: string): Promise<unknown> | undefined {
    return this.#tails.get(key);
  }

  /** @returns the same promise. */
  add<T>(key: string, running: Promise<T>): Promise<T> {
    const settled = running
      .catch(() => undefined)
      .finally(() => {
        if (this.#tails.get(key) === settled) this.#tails.delete(key);
      });
    this.#tails.set(key, settled);
    return running;
  }
}
