import { InfermuxError } from '../common/errors.js';
import { StartRecord } from './control/start-record.js';
import { type Goal, type GoalStatus, PursuedGoal } from './goals.js';

/** The goal of a deployment's last change, and what the starts of its replicas since then mean for the goal. */
export class GoalPursuit {
  readonly #deployment: string;
  readonly #starts = new StartRecord();
  #goal: PursuedGoal;

  /** @param id of the first goal. */
  constructor(deployment: string, id?: string) {
    this.#deployment = deployment;
    this.#goal = new PursuedGoal(id);
  }

  get goal(): Goal {
    return this.#goal.goal;
  }

  get status(): GoalStatus {
    return this.#goal.status;
  }

  /** Resolves when the goal is decided, or when a replica failed, so that the goal may take for ever. */
  get decidedOrFailing(): Promise<void> {
    return this.#goal.decidedOrFailing;
  }

  /** Why a replica last failed. */
  get lastFailure(): InfermuxError | undefined {
    return this.#starts.lastFailure;
  }

  /**
   * Supersedes the goal by another one.
   *
   * @param isRunning whether a replica with the settings of the new target runs already.
   */
  begin(isRunning: boolean, id?: string): void {
    this.#goal.settle('superseded');
    this.#goal = new PursuedGoal(id);
    this.#starts.begin(isRunning);
  }

  reached(): void {
    this.#goal.settle('reached');
  }

  fail(reason: InfermuxError): void {
    this.#goal.fail(reason);
  }

  /** A replica with the settings of the target runs. */
  replicaRan(): void {
    this.#starts.ran();
  }

  replicaFailed(error: InfermuxError): void {
    this.#starts.replicaFailed(error);
    // Before any replica has run, a few failed starts decide the goal.
    if (this.#starts.hasRun) this.#goal.replicaFailed();
  }

  /**
   * A replica failed before it ran. The goal fails when enough starts failed and none succeeded.
   *
   * @param isCurrent whether it was started with the settings of the target.
   * @param replicas the target number of replicas.
   */
  startFailed(error: InfermuxError, isCurrent: boolean, replicas: number): void {
    if (isCurrent) this.#starts.startFailed();
    const failed = this.#starts.missed(replicas);
    if (failed === undefined) return;
    const message = `deployment ${this.#deployment}: ${failed} starts failed, and none succeeded: ${error.message}`;
    this.#goal.fail(new InfermuxError('REPLICA_FAILED', message, { cause: error, retryable: false }));
  }
}
