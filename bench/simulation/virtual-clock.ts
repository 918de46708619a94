import type { Clock } from '../../dist/clock.js';
import { IndexedHeap } from '../../dist/routing/indexed-heap.js';

interface Timer {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
}

/** Time that goes from one event to the next; those of the same moment happen in the order in which they were scheduled. */
export class VirtualClock implements Clock {
  readonly #timers = new IndexedHeap<Timer>(
    (left, right) => left.at < right.at || (left.at === right.at && left.order < right.order),
  );
  #now = 0;
  #order = 0;
  #deferred: (() => void)[] = [];

  now(): number {
    return this.#now;
  }

  /** As Node's timers: no sooner than in a millisecond. */
  schedule(callback: () => void, delayMs: number): () => void {
    return this.after(Math.max(1, delayMs), callback);
  }

  after(milliseconds: number, callback: () => void): () => void {
    const timer = { at: this.#now + milliseconds, order: this.#order++, callback };
    this.#timers.set(timer);
    return () => {
      this.#timers.delete(timer);
    };
  }

  defer(callback: () => void): void {
    this.#deferred.push(callback);
  }

  nextTurn(callback: () => void): void {
    this.#deferred.push(callback);
  }

  /** Goes to the next event. @returns false when there is none. */
  step(): boolean {
    this.#runDeferred();
    const timer = this.#timers.pop();
    if (timer === undefined) return false;
    this.#now = timer.at;
    timer.callback();
    this.#runDeferred();
    return true;
  }

  #runDeferred(): void {
    while (this.#deferred.length > 0) for (const callback of this.#deferred.splice(0)) callback();
  }
}
