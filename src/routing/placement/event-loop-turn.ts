import type { Clock } from '../../common/clock.js';

/** A turn hands out work for this long, or for as long as callers took to send their requests. */
const LONGEST_TURN_MS = 1;
/** A turn never hands out work for longer than this, whatever else callers did meanwhile. */
const LONGEST_ALLOWANCE_MS = 10;

/**
 * The present turn of the event loop, and whether it has lasted long enough. Node handles messages as long as they keep
 * coming. Each answer frees a slot for the next request, whose answer may arrive before Node looks for the next
 * message: timers and sockets would starve for a hundred milliseconds and more. So after a while work is handed out in
 * the next turn.
 *
 * The turn begins with its first answer. The time that callers take to send a burst of requests does not count, and the
 * turn may hand out work for as long as they took. Otherwise a longer turn would bring more requests, hardly any of
 * them would be handed out, and the backlog would never shrink.
 */
export class EventLoopTurn {
  readonly #clock: Clock;
  #startedAt: number | undefined;
  #longestMs = LONGEST_TURN_MS;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Call it with each answer. */
  begin(): void {
    if (this.#startedAt !== undefined) return;
    this.#startedAt = this.#clock.now();
    this.#clock.nextTurn(() => {
      this.#startedAt = undefined;
      this.#longestMs = LONGEST_TURN_MS;
    });
  }

  get isOver(): boolean {
    return this.#startedAt !== undefined && this.#clock.now() - this.#startedAt >= this.#longestMs;
  }

  /** Callers sent requests for this long without a pause. */
  callersTook(milliseconds: number): void {
    this.#longestMs = Math.max(this.#longestMs, Math.min(milliseconds, LONGEST_ALLOWANCE_MS));
  }
}
