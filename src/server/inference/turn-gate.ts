/**
 * Lets the requests that arrive in one turn of the event loop go to the engine together, at its end. So the engine sees
 * them all before it forms batches and wakes replicas, as it does when one caller sends many; a request that is alone
 * loses no time, since nothing else happens in that turn.
 */
export class TurnGate {
  #waiting: (() => void)[] = [];

  /** Resolves at the end of this turn. */
  pass(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      if (this.#waiting.length === 1) setImmediate(this.#open);
    });
  }

  readonly #open = () => {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  };
}
