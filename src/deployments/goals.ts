import { randomUUID } from 'node:crypto';
import type { InfermuxError } from '../errors.js';

export type GoalStatus = 'pending' | 'reached' | 'superseded' | 'failed';

/** What a change of a deployment is to lead to. */
export interface Goal {
  readonly id: string;
  readonly status: GoalStatus;
  /**
   * Resolves with `'reached'`, or with `'superseded'` when a later change takes its place.
   *
   * @throws InfermuxError by rejection when it cannot be reached, with the reason.
   */
  readonly done: Promise<'reached' | 'superseded'>;
}

/** A goal, for those who pursue it. */
export class PursuedGoal implements Goal {
  readonly id = randomUUID();
  readonly done: Promise<'reached' | 'superseded'>;
  #status: GoalStatus = 'pending';
  #resolve: (how: 'reached' | 'superseded') => void = () => undefined;
  #reject: (reason: InfermuxError) => void = () => undefined;

  constructor() {
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Nobody has to wait for it.
    this.done.catch(() => undefined);
  }

  get status(): GoalStatus {
    return this.#status;
  }

  /** Only the first that happens to it counts. */
  settle(status: 'reached' | 'superseded'): void {
    if (this.#status !== 'pending') return;
    this.#status = status;
    this.#resolve(status);
  }

  fail(reason: InfermuxError): void {
    if (this.#status !== 'pending') return;
    this.#status = 'failed';
    this.#reject(reason);
  }
}
