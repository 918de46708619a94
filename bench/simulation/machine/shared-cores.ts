import TinyQueue from 'tinyqueue';
import type { VirtualClock } from './virtual-clock.js';

interface UnderWay {
  readonly milliseconds: number;
  readonly begunAt: number;
  /** The attained time at which it is done. */
  readonly endsAt: number;
  readonly order: number;
  /** Undefined after it was ended. */
  done: ((slowdown: number) => void) | undefined;
}

/**
 * Work that shares cores, all of it in the same proportion (processor sharing). Whatever has begun progresses alike, so
 * one number, the time that work from the start on would have attained, says when each is done: what changes the share
 * touches one timer, however much is under way (virtual time, as in fair queueing: Demers, Keshav and Shenker 1989).
 */
export class SharedCores {
  readonly #clock: VirtualClock;
  readonly #underWay = new TinyQueue<UnderWay>(
    [],
    (left, right) => left.endsAt - right.endsAt || left.order - right.order,
  );
  #order = 0;
  /** Cores for each thread, at most 1. */
  #share = 1;
  /** Milliseconds that work from the start on would have attained at `#since`. */
  #attained = 0;
  #since = 0;
  /** When the share was last below 1. */
  #slowAt = Number.NEGATIVE_INFINITY;
  /** What the timer waits for. */
  #next: UnderWay | undefined;
  #cancel: () => void = () => undefined;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  /** @param done is told how many times as long it took as with all its cores. @returns ends the work before. */
  begin(milliseconds: number, done: (slowdown: number) => void): () => void {
    this.#advance();
    const endsAt = this.#attained + milliseconds;
    const underWay: UnderWay = { milliseconds, begunAt: this.#since, endsAt, order: this.#order++, done };
    this.#underWay.push(underWay);
    this.#waitForNext();
    return () => {
      underWay.done = undefined;
      this.#waitForNext();
    };
  }

  setShare(share: number): void {
    if (share === this.#share) return;
    this.#advance();
    this.#share = share;
    // Whatever is next is done at another time now.
    this.#cancel();
    this.#next = undefined;
    this.#waitForNext();
  }

  #advance(): void {
    const now = this.#clock.now();
    this.#attained += (now - this.#since) * this.#share;
    this.#since = now;
    if (this.#share < 1) this.#slowAt = now;
  }

  /** Sets the timer to the work that is done first, if that is another than before. */
  #waitForNext(): void {
    let first = this.#underWay.peek();
    while (first !== undefined && first.done === undefined) {
      this.#underWay.pop();
      first = this.#underWay.peek();
    }
    if (first === this.#next) return;
    this.#cancel();
    this.#cancel = () => undefined;
    this.#next = first;
    if (first === undefined || this.#share <= 0) return;
    this.#advance();
    const milliseconds = Math.max(0, first.endsAt - this.#attained) / this.#share;
    this.#cancel = this.#clock.after(milliseconds, () => this.#ended(first));
  }

  #ended(underWay: UnderWay): void {
    this.#advance();
    // Rounding must not leave some of it.
    this.#attained = Math.max(this.#attained, underWay.endsAt);
    this.#underWay.pop();
    const { milliseconds, begunAt, done } = underWay;
    underWay.done = undefined;
    this.#waitForNext();
    const isSlowed = this.#slowAt > begunAt && milliseconds > 0;
    done?.(isSlowed ? (this.#since - begunAt) / milliseconds : 1);
  }
}
