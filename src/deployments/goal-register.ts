import type { InfermuxError } from '../common/errors.js';
import type { Goal, GoalStatus } from './goals.js';

/** A snapshot of a goal. */
export interface GoalReport {
  readonly id: string;
  readonly deployment: string;
  readonly status: GoalStatus;
  /** Why it failed. */
  readonly reason: string | undefined;
}

/** Decided goals beyond these are forgotten, the oldest first. */
const MOST_GOALS = 1_000;

interface Known {
  readonly deployment: string;
  readonly goal: Goal;
  reason: string | undefined;
}

/** The goals of all deployments, `engine.deployments.goals`: the current ones, and the last thousand. */
export class Goals {
  readonly #known = new Map<string, Known>();
  readonly #changed: (goal: GoalReport) => void;

  /** @param changed called when a goal is new, and when it is decided. @internal */
  constructor(changed: (goal: GoalReport) => void) {
    this.#changed = changed;
  }

  /** Returns the state of a goal; undefined if it is too old. */
  get(id: string): GoalReport | undefined {
    const known = this.#known.get(id);
    return known && reportOf(id, known);
  }

  /** The oldest first. */
  list(): GoalReport[] {
    return [...this.#known.keys()].flatMap((id) => this.get(id) ?? []);
  }

  /** @internal */
  add(deployment: string, goal: Goal): Goal {
    if (this.#known.get(goal.id)?.goal === goal) return goal;
    const known: Known = { deployment, goal, reason: undefined };
    this.#known.set(goal.id, known);
    this.#forgetOld();
    const tell = () => this.#changed(reportOf(goal.id, known));
    tell();
    const failed = (error: InfermuxError) => {
      known.reason = error.message;
    };
    if (goal.status === 'pending') goal.done.catch(failed).then(tell);
    else goal.done.catch(failed);
    return goal;
  }

  #forgetOld(): void {
    let excess = this.#known.size - MOST_GOALS;
    if (excess <= 0) return;
    for (const [id, { goal }] of this.#known) {
      if (excess <= 0) return;
      if (goal.status === 'pending') continue;
      this.#known.delete(id);
      excess -= 1;
    }
  }
}

function reportOf(id: string, { deployment, goal, reason }: Known): GoalReport {
  return { id, deployment, status: goal.status, reason };
}
