import type { InfermuxError } from '../../common/errors.js';

const MOST_FAILED_STARTS = 20;
const FAILED_STARTS_PER_REPLICA = 3;

/** Counts the starts since the present target was set. */
export class StartRecord {
  #failed = 0;
  #hasRun = false;
  #lastFailure: InfermuxError | undefined;

  /** Why a replica last failed. */
  get lastFailure(): InfermuxError | undefined {
    return this.#lastFailure;
  }

  /** Whether a replica with the target's settings runs, or ran. */
  get hasRun(): boolean {
    return this.#hasRun;
  }

  /**
   * Begins to count for another target.
   *
   * @param isRunning whether a replica with its settings runs already.
   */
  begin(isRunning: boolean): void {
    this.#failed = 0;
    this.#hasRun = isRunning;
  }

  /** A replica with the target's settings runs. */
  ran(): void {
    this.#hasRun = true;
  }

  replicaFailed(error: InfermuxError): void {
    this.#lastFailure = error;
  }

  startFailed(): void {
    this.#failed += 1;
  }

  /**
   * Returns the number of failed starts when it reaches the limit and none succeeded: three for each replica, 20 at
   * most, as in Ray Serve. Undefined below the limit.
   */
  missed(replicas: number): number | undefined {
    const most = Math.min(MOST_FAILED_STARTS, FAILED_STARTS_PER_REPLICA * Math.max(1, replicas));
    return !this.#hasRun && this.#failed >= most ? this.#failed : undefined;
  }
}
