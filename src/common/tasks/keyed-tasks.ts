/** Keeps the latest unsettled promise of each key. The kept promises never reject. */
export class KeyedTasks {
  readonly #latest = new Map<string, Promise<unknown>>();

  get size(): number {
    return this.#latest.size;
  }

  has(key: string): boolean {
    return this.#latest.has(key);
  }

  get(key: string): Promise<unknown> | undefined {
    return this.#latest.get(key);
  }

  /** Runs the work after the latest of its key. */
  inTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    return this.add(key, (this.#latest.get(key) ?? Promise.resolve()).then(work));
  }

  /** @returns the same promise. */
  add<T>(key: string, running: Promise<T>): Promise<T> {
    const settled = running
      .catch(() => undefined)
      .finally(() => {
        if (this.#latest.get(key) === settled) this.#latest.delete(key);
      });
    this.#latest.set(key, settled);
    return running;
  }
}
