import type { Clock } from '../../common/clock.js';

/** So long may one turn of the event loop go on with handling answers and handing out work, if its callers took no longer. */
const LONGEST_TURN_MS = 1;
/** And never longer, whatever else callers did meanwhile. */
const LONGEST_ALLOWANCE_MS = 10;

/**
 * The present turn of the event loop. Node handles messages as long as they keep coming: when each answer lets a request be
 * given, and that is answered before the next message is looked at, timers and sockets would starve for a hundred
 * milliseconds and more. So after a while work is given in the next turn only.
 *
 * The turn begins with its first answer: the time that callers take to send a burst of requests is their own, and gives as
 * much to those who answer it. Otherwise, when more and more requests come in each turn because each takes longer, hardly
 * any would be handed out, and the backlog would never go.
 */
export class EventLoopTurn {
  readonly #clock: Clock;
  #startedAt: number | undefined;
  #longestMs = LONGEST_TURN_MS;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** To be called with each answer. */
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

  /** Callers sent requests for so long without a pause. */
  callersTook(milliseconds: number): void {
    this.#longestMs = Math.max(this.#longestMs, Math.min(milliseconds, LONGEST_ALLOWANCE_MS));
  }
}
