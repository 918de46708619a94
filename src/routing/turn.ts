import type { Clock } from '../clock.js';

/** So long may one turn of the event loop go on with handing out work. */
const LONGEST_TURN_MS = 1;

/**
 * The present turn of the event loop. Node handles messages as long as they keep coming: when each answer lets a request be
 * given, and that is answered before the next message is looked at, timers and sockets would starve for a hundred
 * milliseconds and more. So after a while work is given in the next turn only.
 */
export class Turn {
  readonly #clock: Clock;
  #startedAt: number | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isOver(): boolean {
    const now = this.#clock.now();
    if (this.#startedAt === undefined) {
      this.#startedAt = now;
      this.#clock.nextTurn(() => {
        this.#startedAt = undefined;
      });
    }
    return now - this.#startedAt >= LONGEST_TURN_MS;
  }
}
