/** Keeps the process up as long as somebody holds it: worker threads and timers alone do not. */
export class KeepAlive {
  readonly #timer = setInterval(() => undefined, 2 ** 30).unref();
  #holders = 0;

  hold(): void {
    this.#holders += 1;
    this.#timer.ref();
  }

  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#timer.unref();
  }

  /** Holds it as long as the work goes on. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.hold();
    try {
      return await work();
    } finally {
      this.release();
    }
  }
}
