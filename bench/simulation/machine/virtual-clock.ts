import TinyQueue from 'tinyqueue';
import type { Clock } from '../../../dist/common/clock.js';

interface Timer {
  readonly at: number;
  readonly order: number;
  /** Undefined after the timer was cancelled. */
  callback: (() => void) | undefined;
}

/** Time that jumps from one event to the next. Events of the same time happen in the order of scheduling. */
export class VirtualClock implements Clock {
  readonly #timers = new TinyQueue<Timer>([], (left, right) => left.at - right.at || left.order - right.order);
  #now = 0;
  #order = 0;
  #deferred: (() => void)[] = [];

  now(): number {
    return this.#now;
  }

  /** Like Node's timers: after at least a millisecond. */
  schedule(callback: () => void, delayMs: number): () => void {
    return this.after(Math.max(1, delayMs), callback);
  }

  after(milliseconds: number, callback: () => void): () => void {
    const timer: Timer = { at: this.#now + milliseconds, order: this.#order++, callback };
    this.#timers.push(timer);
    return () => {
      timer.callback = undefined;
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
    let timer = this.#timers.pop();
    while (timer !== undefined && timer.callback === undefined) timer = this.#timers.pop();
    if (timer?.callback === undefined) return false;
    this.#now = timer.at;
    timer.callback();
    this.#runDeferred();
    return true;
  }

  #runDeferred(): void {
    while (this.#deferred.length > 0) for (const callback of this.#deferred.splice(0)) callback();
  }
}
