import type { Clock } from './clock.js';

/** Most pieces of work in one turn of the event loop: they take less than a millisecond, even when code is cold. */
export const PIECES_A_TURN = 128;

/**
 * Does many small pieces of work without holding the event loop: a piece is done at once, unless the present turn of
 * the event loop has had its portion. Then it is done in one of the next turns, in the order of the calls.
 */
export class TurnPortions {
  readonly #clock: Pick<Clock, 'nextTurn'>;
  /** Pieces that may still be done in this turn; 0 while others wait. */
  #left = PIECES_A_TURN;
  #waiting: (() => void)[] = [];
  /** Those before it are done. */
  #next = 0;

  constructor(clock: Pick<Clock, 'nextTurn'>) {
    this.#clock = clock;
  }

  /** @param piece must not throw. */
  do(piece: () => void): void {
    if (this.#left === 0) {
      this.#waiting.push(piece);
      return;
    }
    this.#left -= 1;
    if (this.#left === PIECES_A_TURN - 1) this.#clock.nextTurn(() => this.#turn());
    piece();
  }

  #turn(): void {
    this.#left = PIECES_A_TURN;
    if (this.#next === this.#waiting.length) return;
    // Before the pieces: the others are done even if one throws.
    this.#clock.nextTurn(() => this.#turn());
    const end = Math.min(this.#next + PIECES_A_TURN, this.#waiting.length);
    this.#left = PIECES_A_TURN - (end - this.#next);
    while (this.#next < end) {
      const piece = this.#waiting[this.#next];
      this.#next += 1;
      piece?.();
    }
    if (this.#next < this.#waiting.length) return;
    this.#waiting = [];
    this.#next = 0;
  }
}
