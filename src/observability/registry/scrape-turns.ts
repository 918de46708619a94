/** Most items that are worked on in one turn of the event loop: less than a millisecond, even when code is cold. */
export const ITEMS_A_TURN = 250;

/**
 * Gives each metric that is read a turn of the event loop of its own, one after the other: prom-client reads all metrics
 * at once, and the event loop would be held until all are written.
 */
export class ScrapeTurns {
  readonly #nextTurn: (callback: () => void) => void;
  readonly #scrapeBegins: () => void;
  #last: Promise<void> = Promise.resolve();
  #waiting = 0;

  /**
   * @param nextTurn calls back once in the next turn of the event loop.
   * @param scrapeBegins called when a metric is read while no other one waits for its turn.
   */
  constructor(nextTurn: (callback: () => void) => void, scrapeBegins: () => void) {
    this.#nextTurn = nextTurn;
    this.#scrapeBegins = scrapeBegins;
  }

  /** Resolves in the turn in which a metric may be read. */
  toRead(): Promise<void> {
    if (this.#waiting === 0) this.#scrapeBegins();
    return this.next();
  }

  /** Resolves in the next turn that nobody else has. */
  next(): Promise<void> {
    this.#waiting += 1;
    const passed = () => {
      this.#waiting -= 1;
    };
    this.#last = this.#last.then(() => new Promise<void>((resolve) => this.#nextTurn(resolve))).then(passed);
    return this.#last;
  }

  /** Calls back for each item, and goes on in another turn after each {@link ITEMS_A_TURN}. */
  async forEach<T>(items: Iterable<T>, visit: (item: T) => void): Promise<void> {
    let left = ITEMS_A_TURN;
    for (const item of items) {
      if (left === 0) {
        await this.next();
        left = ITEMS_A_TURN;
      }
      left -= 1;
      visit(item);
    }
  }
}
