/** Keys, each held until all of its holders are gone. */
export class HeldKeys {
  readonly #holders = new Map<string, number>();

  has(key: string): boolean {
    return this.#holders.has(key);
  }

  /** @param gone resolves when this holder is gone. */
  add(key: string, gone: Promise<unknown>): void {
    this.#holders.set(key, (this.#holders.get(key) ?? 0) + 1);
    void gone.then(() => {
      const left = (this.#holders.get(key) ?? 1) - 1;
      if (left === 0) this.#holders.delete(key);
      else this.#holders.set(key, left);
    });
  }
}
