import type { Clock } from '../../common/clock.js';

/** What a loop is to do. */
export interface ControlSteps<Action> {
  /** The next step to take now, by how things stand; undefined for none. */
  next(): Action | undefined;
  /** Takes it, or begins to. */
  perform(action: Action): void;
  /**
   * Called when there is no step to take now. @returns milliseconds until there may be one without anything happening.
   */
  rest(): number | undefined;
}

/** Takes steps until there is none to take, whenever it is told to look, and when one is due. */
export class ControlLoop<Action> {
  readonly #steps: ControlSteps<Action>;
  readonly #clock: Clock;
  #cancelTimer: (() => void) | undefined;
  #isLooking = false;
  #mustLookAgain = false;
  #isStopped = false;

  constructor(steps: ControlSteps<Action>, clock: Clock) {
    this.#steps = steps;
    this.#clock = clock;
  }

  /** May be called from within a step: what that changed is looked at after it. */
  look(): void {
    if (this.#isLooking) {
      this.#mustLookAgain = true;
      return;
    }
    this.#isLooking = true;
    try {
      do {
        this.#mustLookAgain = false;
        for (let action = this.#next(); action !== undefined; action = this.#next()) this.#steps.perform(action);
      } while (this.#mustLookAgain);
    } finally {
      this.#isLooking = false;
    }
    this.#rest();
  }

  /** Takes no step from now on. */
  stop(): void {
    this.#isStopped = true;
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
  }

  #next(): Action | undefined {
    return this.#isStopped ? undefined : this.#steps.next();
  }

  #rest(): void {
    const inMs = this.#steps.rest();
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (inMs === undefined || this.#isStopped) return;
    this.#cancelTimer = this.#clock.schedule(() => {
      this.#cancelTimer = undefined;
      this.look();
    }, inMs);
  }
}
