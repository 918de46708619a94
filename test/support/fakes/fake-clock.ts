import type { Clock } from '../../../dist/common/clock.js';

/** Time that passes only when it is told to. */
export class FakeClock implements Clock {
  #now = 0;
  #timers: { readonly at: number; readonly callback: () => void }[] = [];
  #deferred: (() => void)[] = [];
  readonly #defers: boolean;

  /** @param defers hold back what is deferred until `runDeferred`; otherwise it happens at once. */
  constructor({ defers = false } = {}) {
    this.#defers = defers;
  }

  now(): number {
    return this.#now;
  }

  get timers(): number {
    return this.#timers.length;
  }

  schedule(callback: () => void, delayMs: number): () => void {
    // As Node's timers: whole milliseconds, and at least one.
    const timer = { at: this.#now + Math.max(1, Math.trunc(delayMs)), callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  defer(callback: () => void): void {
    if (this.#defers) this.#deferred.push(callback);
    else callback();
  }

  nextTurn(callback: () => void): void {
    this.defer(callback);
  }

  runDeferred(): void {
    for (const callback of this.#deferred.splice(0)) callback();
  }

  advance(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (;;) {
      const [next] = this.#timers.filter(({ at }) => at <= end).sort((left, right) => left.at - right.at);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
    }
    this.#now = end;
  }
}
