import { randomUUID } from 'node:crypto';
import type { InfermuxError } from '../common/errors.js';

export type GoalStatus = 'pending' | 'reached' | 'superseded' | 'failed';

/** The goal of a change of a deployment: that its replicas match its options. */
export interface Goal {
  readonly id: string;
  readonly status: GoalStatus;
  /**
   * Resolves with `'reached'`, or with `'superseded'` when a later change replaces the goal.
   *
   * @throws InfermuxError by rejection, with the reason, when the goal cannot be reached.
   */
  readonly done: Promise<'reached' | 'superseded'>;
}

/** A goal as its deployment sees it: it settles the goal or fails it. */
export class PursuedGoal {
  /** The goal as callers see it. */
  readonly goal: Goal;
  readonly #view: { readonly id: string; status: GoalStatus; readonly done: Goal['done'] };
  /** Resolves when the goal is decided, or when a replica failed, so that the goal may take for ever. */
  readonly decidedOrFailing: Promise<void>;
  #resolve: (how: 'reached' | 'superseded') => void = () => undefined;
  #reject: (reason: InfermuxError) => void = () => undefined;
  #replicaFailed: () => void = () => undefined;

  /** @param id of the goal; another one for each. */
  constructor(id: string = randomUUID()) {
    const done = new Promise<'reached' | 'superseded'>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    // Callers need not wait for the goal: its failure is no unhandled rejection.
    done.catch(() => undefined);
    this.decidedOrFailing = new Promise((resolve) => {
      this.#replicaFailed = resolve;
      void done.then(() => resolve(), resolve);
    });
    this.#view = { id, status: 'pending', done };
    this.goal = this.#view;
  }

  get status(): GoalStatus {
    return this.#view.status;
  }

  replicaFailed(): void {
    this.#replicaFailed();
  }

  /** Decides the goal, unless it is decided already. */
  settle(status: 'reached' | 'superseded'): void {
    if (this.status !== 'pending') return;
    this.#view.status = status;
    this.#resolve(status);
  }

  /** Fails the goal, unless it is decided already. */
  fail(reason: InfermuxError): void {
    if (this.status !== 'pending') return;
    this.#view.status = 'failed';
    this.#reject(reason);
  }
}

/** Returns a goal that is reached already. */
export function reachedGoal(id?: string): Goal {
  const reached = new PursuedGoal(id);
  reached.settle('reached');
  return reached.goal;
}
