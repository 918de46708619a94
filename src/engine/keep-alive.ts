import { setInterval } from 'node:timers';

/** Keeps the process up while anyone holds it: the engine's timers do not, nor its threads once they have started. */
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

  /** Holds the process while the work goes on. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.hold();
    try {
      return await work();
    } finally {
      this.release();
    }
  }
}
