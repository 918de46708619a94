import type { InfermuxError } from '../../common/errors.js';

const MOST_FAILED_STARTS = 20;
const FAILED_STARTS_PER_REPLICA = 3;

/** How starts fared since the present target was set. */
export class StartRecord {
  #failed = 0;
  #hasRun = false;
  #lastFailure: InfermuxError | undefined;

  /** Why a replica failed, the last time one did. */
  get lastFailure(): InfermuxError | undefined {
    return this.#lastFailure;
  }

  /** Whether a replica as it is to be runs, or ran. */
  get hasRun(): boolean {
    return this.#hasRun;
  }

  /** @param isRunning whether a replica as it is to be runs already. */
  begin(isRunning: boolean): void {
    this.#failed = 0;
    this.#hasRun = isRunning;
  }

  /** A replica as it is to be runs. */
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
   * How many starts failed, when they are so many without one that succeeded that there is no sense in waiting: three
   * for each replica, 20 at most, as in Ray Serve. Undefined as long as there is.
   */
  missed(replicas: number): number | undefined {
    const most = Math.min(MOST_FAILED_STARTS, FAILED_STARTS_PER_REPLICA * Math.max(1, replicas));
    return !this.#hasRun && this.#failed >= most ? this.#failed : undefined;
  }
}
