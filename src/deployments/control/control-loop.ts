import type { Clock } from '../../common/clock.js';

/** The steps of a {@link ControlLoop}. */
export interface ControlSteps<Action> {
  /** Returns the step to take now; undefined for none. */
  next(): Action | undefined;
  /** Takes the step, or begins to. */
  perform(action: Action): void;
  /**
   * Called when there is no step to take now.
   *
   * @returns milliseconds until a step may be due by time alone; undefined when none will be.
   */
  rest(): number | undefined;
}

/** Takes steps until none is left, whenever it is told to look, and when a step is due by time. */
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

  /** Takes all steps that are due. A step may call it: the loop then looks again after that step. */
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
