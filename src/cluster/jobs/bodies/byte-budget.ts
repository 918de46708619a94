/** Lets so many bytes be in memory at a time. What is more than all of them is let in alone. Who asks first is let in first. */
export class ByteBudget {
  readonly #most: number;
  #used = 0;
  readonly #waiting: { readonly bytes: number; readonly enter: () => void }[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  /** Resolves when there is room, with what gives it back. */
  async take(bytes: number): Promise<() => void> {
    await new Promise<void>((enter) => {
      this.#waiting.push({ bytes, enter });
      this.#goOn();
    });
    return () => {
      this.#used -= bytes;
      this.#goOn();
    };
  }

  #goOn(): void {
    for (let [next] = this.#waiting; next !== undefined; [next] = this.#waiting) {
      if (this.#used > 0 && this.#used + next.bytes > this.#most) return;
      this.#used += next.bytes;
      this.#waiting.shift();
      next.enter();
    }
  }
}
