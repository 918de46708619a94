type Listener = () => void;

/**
 * Tells requests that their client has gone away. It has what the engine uses of an AbortSignal, and costs a tenth of one:
 * every request listens to its signal, and stops to.
 */
export class ClientSignal {
  aborted = false;
  #reasonOf: (() => unknown) | undefined;
  readonly #listeners: Listener[] = [];

  /** The signal as the engine takes it. */
  get signal(): AbortSignal {
    return this as unknown as AbortSignal;
  }

  addEventListener(_type: 'abort', listener: Listener): void {
    this.#listeners.push(listener);
  }

  removeEventListener(_type: 'abort', listener: Listener): void {
    const at = this.#listeners.indexOf(listener);
    if (at !== -1) this.#listeners.splice(at, 1);
  }

  /** Node lifts the limit of listeners by it. There is none. */
  setMaxListeners(): void {}

  /** Why it was aborted. */
  get reason(): unknown {
    return this.#reasonOf?.();
  }

  /** @param reasonOf makes the reason if somebody asks: streams are also closed when all is well. The first one counts. */
  abort(reasonOf: () => unknown): void {
    if (this.aborted) return;
    this.aborted = true;
    this.#reasonOf = reasonOf;
    for (const listener of this.#listeners.splice(0)) listener();
  }
}
