import type { Clock } from '../../common/clock.js';
import { InfermuxError, messageOf } from '../../common/errors.js';

export interface HealthCheckSettings {
  readonly periodMs: number;
  readonly timeoutMs: number;
  readonly failures: number;
}

/** A running replica, as health checks see it. */
export interface CheckedReplica {
  readonly id: string;
  /** Whether the thread loads a model, for which it answers nothing. */
  readonly isInLoad: boolean;
  /** Rejects when the replica is unhealthy. */
  checkHealth(): Promise<void>;
}

export interface HealthObserver<R> {
  failed(replica: R, error: InfermuxError, failuresInRow: number): void;
  /** Enough checks failed in a row: the replica must be replaced. */
  unhealthy(replica: R, error: InfermuxError): void;
}

/** Checks the health of replicas at regular times. */
export class HealthChecks<R extends CheckedReplica> {
  readonly #settings: () => HealthCheckSettings;
  readonly #clock: Clock;
  readonly #observer: HealthObserver<R>;
  /** Ends the checks of each replica. */
  readonly #watched = new Map<R, () => void>();

  /** @param settings the settings in force, read before each check. */
  constructor(settings: () => HealthCheckSettings, clock: Clock, observer: HealthObserver<R>) {
    this.#settings = settings;
    this.#clock = clock;
    this.#observer = observer;
  }

  /** Begins to check the replica, after one period: it has just said hello. */
  watch(replica: R): void {
    let cancel: () => void = () => undefined;
    let failuresInRow = 0;
    let isOver = false;
    const checkLater = () => {
      cancel = this.#clock.schedule(() => void check(), this.#settings().periodMs);
    };
    const check = async () => {
      const error = await this.#check(replica, (cancelTimeout) => {
        cancel = cancelTimeout;
      });
      if (isOver) return;
      failuresInRow = error === undefined ? 0 : failuresInRow + 1;
      if (error !== undefined) this.#observer.failed(replica, error, failuresInRow);
      if (error !== undefined && failuresInRow >= this.#settings().failures) {
        this.forget(replica);
        this.#observer.unhealthy(replica, error);
      } else checkLater();
    };
    this.#watched.set(replica, () => {
      isOver = true;
      cancel();
    });
    checkLater();
  }

  forget(replica: R): void {
    this.#watched.get(replica)?.();
    this.#watched.delete(replica);
  }

  /** @returns why the replica is unhealthy; undefined when it is healthy. */
  async #check(replica: R, onTimeout: (cancel: () => void) => void): Promise<InfermuxError | undefined> {
    const { timeoutMs } = this.#settings();
    let cancel: () => void = () => undefined;
    const late = new Promise<InfermuxError | undefined>((resolve) => {
      const expire = () => {
        // A load has a bound of its own.
        if (replica.isInLoad) arm();
        else resolve(new InfermuxError('REPLICA_FAILED', `no answer to a health check within ${timeoutMs} ms`));
      };
      const arm = () => {
        cancel = this.#clock.schedule(expire, timeoutMs);
        onTimeout(cancel);
      };
      arm();
    });
    const checked = replica.checkHealth().then(
      () => undefined,
      (cause: unknown) => new InfermuxError('REPLICA_FAILED', `health check failed: ${messageOf(cause)}`, { cause }),
    );
    const error = await Promise.race([checked, late]);
    cancel();
    return error;
  }
}
