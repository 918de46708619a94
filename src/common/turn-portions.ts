import type { Clock } from './clock.js';

/** Most pieces of work in one turn of the event loop: they take less than a millisecond, even when code is cold. */
export const PIECES_A_TURN = 128;

interface Work {
  readonly piece: () => void;
  readonly pieces: number;
}

/**
 * Does many small pieces of work without holding the event loop: a piece is done at once, unless the present turn of
 * the event loop has had its portion. Then it is done in one of the next turns, in the order of the calls.
 */
export class TurnPortions {
  readonly #clock: Pick<Clock, 'nextTurn'>;
  /** Pieces that may still be done in this turn; negative when later turns have been used up, too. */
  #left = PIECES_A_TURN;
  #hasBegun = false;
  #waiting: Work[] = [];
  /** Those before it are done. */
  #next = 0;

  constructor(clock: Pick<Clock, 'nextTurn'>) {
    this.#clock = clock;
  }

  /**
   * @param piece must not throw.
   * @param pieces how many small ones it counts for. What exceeds the portion of a turn is taken from those of the next.
   */
  do(piece: () => void, pieces = 1): void {
    if (this.#left <= 0 || this.#next < this.#waiting.length) {
      this.#waiting.push({ piece, pieces });
      return;
    }
    this.#left -= pieces;
    if (!this.#hasBegun) this.#clock.nextTurn(() => this.#turn());
    this.#hasBegun = true;
    piece();
  }

  #turn(): void {
    this.#left = Math.min(PIECES_A_TURN, this.#left + PIECES_A_TURN);
    this.#hasBegun = this.#left < PIECES_A_TURN || this.#next < this.#waiting.length;
    if (!this.#hasBegun) return;
    // Before the pieces: the others are done even if one throws.
    this.#clock.nextTurn(() => this.#turn());
    while (this.#left > 0 && this.#next < this.#waiting.length) {
      const { piece, pieces } = this.#waiting[this.#next] as Work;
      this.#next += 1;
      this.#left -= pieces;
      piece();
    }
    if (this.#next < this.#waiting.length) return;
    this.#waiting = [];
    this.#next = 0;
  }
}
