import { randomUUID } from 'node:crypto';
import type { InfermuxError } from '../common/errors.js';

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
export class PursuedGoal {
  /** For those who wait for it. */
  readonly goal: Goal;
  readonly #view: { readonly id: string; status: GoalStatus; readonly done: Goal['done'] };
  /** Resolves when it is decided, or may take for ever, since a replica failed where others run. */
  readonly decidedOrFailing: Promise<void>;
  #resolve: (how: 'reached' | 'superseded') => void = () => undefined;
  #reject: (reason: InfermuxError) => void = () => undefined;
  #replicaFailed: () => void = () => undefined;

  constructor() {
    const done = new Promise<'reached' | 'superseded'>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Nobody has to wait for it.
    done.catch(() => undefined);
    this.decidedOrFailing = new Promise((resolve) => {
      this.#replicaFailed = resolve;
      void done.then(() => resolve(), resolve);
    });
    this.#view = { id: randomUUID(), status: 'pending', done };
    this.goal = this.#view;
  }

  get status(): GoalStatus {
    return this.#view.status;
  }

  replicaFailed(): void {
    this.#replicaFailed();
  }

  /** Only the first that happens to it counts. */
  settle(status: 'reached' | 'superseded'): void {
    if (this.status !== 'pending') return;
    this.#view.status = status;
    this.#resolve(status);
  }

  fail(reason: InfermuxError): void {
    if (this.status !== 'pending') return;
    this.#view.status = 'failed';
    this.#reject(reason);
  }
}

/** One that is reached already. */
export function reachedGoal(): Goal {
  const reached = new PursuedGoal();
  reached.settle('reached');
  return reached.goal;
}
