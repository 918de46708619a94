import type { Clock } from '../../common/clock.js';
import { cloneError, InfermuxError } from '../../common/errors.js';
import type { RunOptions } from '../../contracts/run-options.js';
import { cloneRequest } from './owned-request.js';

/** How a request stands before it is submitted. */
export interface Outlook {
  /** Why nobody can take it now; undefined when somebody can. */
  readonly refusal: InfermuxError | undefined;
  /** Whether its model is to be looked for, and may not be there. */
  readonly isSought: boolean;
}

export interface CapacityWaitsEnvironment {
  readonly clock: Clock;
  /** How the request stands now. Never throws. */
  outlookOf(target: string, options: RunOptions): Outlook;
  /** Most requests that may wait; -1 for no limit. */
  most(): number;
  /** Keeps the process alive while the work goes on. */
  during<T>(work: () => Promise<T>): Promise<T>;
}

/** Lets requests wait for somebody who can take them: a deployment without replicas, or an endpoint that is not set yet. */
export class CapacityWaits {
  readonly #environment: CapacityWaitsEnvironment;
  readonly #waiting = new Set<() => void>();
  #closed: InfermuxError | undefined;

  constructor(environment: CapacityWaitsEnvironment) {
    this.#environment = environment;
  }

  /**
   * Submits the request, at once if somebody can take it or it does not want to wait.
   *
   * @param submit submits it with these options.
   * @throws what `submit` throws. The error of a request that has waited in vain is the one that it got last.
   */
  run<T>(
    target: string,
    request: unknown,
    options: RunOptions,
    submit: (request: unknown, options: RunOptions) => Promise<T>,
  ): Promise<T> {
    const { waitForCapacityMs = 0, transfer } = options;
    if (waitForCapacityMs === 0) return submit(request, options);
    const { refusal, isSought } = this.#environment.outlookOf(target, options);
    if (refusal === undefined && !isSought) return submit(request, options);
    const most = this.#environment.most();
    if (most !== -1 && this.#waiting.size >= most)
      throw new InfermuxError('QUEUE_FULL', `${most} requests wait for capacity already (maxQueuedRequests)`);
    // The caller may change its own as soon as it has the promise.
    const own = transfer === true ? request : cloneRequest(request);
    return this.#environment.during(() =>
      this.#untilTaken(target, own, withDeadline(options), waitForCapacityMs, submit),
    );
  }

  /** Somebody may be able to take requests who could not before. */
  changed(): void {
    for (const look of [...this.#waiting]) look();
  }

  /** Refuses what waits. */
  close(error: InfermuxError): void {
    this.#closed ??= error;
    this.changed();
  }

  async #untilTaken<T>(
    target: string,
    request: unknown,
    options: RunOptions,
    waitMs: number,
    submit: (request: unknown, options: RunOptions) => Promise<T>,
  ): Promise<T> {
    const { clock, outlookOf } = this.#environment;
    const { signal, deadline = Number.POSITIVE_INFINITY, transfer } = options;
    const until = clock.now() + Math.min(waitMs, Math.max(0, deadline - Date.now()));
    for (;;) {
      if (this.#closed !== undefined) throw cloneError(this.#closed);
      if (signal?.aborted === true)
        throw new InfermuxError('CANCELLED', 'the request was cancelled', { cause: signal.reason });
      const { refusal, isSought } = outlookOf(target, options);
      let missed = refusal;
      try {
        if (refusal === undefined) return await submit(request, options);
      } catch (cause) {
        // A request that was taken over cannot be made again.
        if (!isSought || transfer === true || (cause as InfermuxError).code !== 'MODEL_NOT_FOUND') throw cause;
        missed = cause as InfermuxError;
      }
      const leftMs = until - clock.now();
      if (leftMs <= 0) throw Date.now() >= deadline ? late() : (missed as InfermuxError);
      await this.#untilChanged(leftMs, signal);
    }
  }

  /** Resolves when something has changed, the time is over or the signal is aborted. */
  #untilChanged(leftMs: number, signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve) => {
      const end = () => {
        this.#waiting.delete(end);
        cancel();
        signal?.removeEventListener('abort', end);
        resolve();
      };
      const cancel = this.#environment.clock.schedule(end, leftMs);
      this.#waiting.add(end);
      signal?.addEventListener('abort', end, { once: true });
    });
  }
}

/** The time-out begins now, and not when somebody takes the request. */
function withDeadline(options: RunOptions): RunOptions {
  const { timeoutMs = -1, deadline = Number.POSITIVE_INFINITY } = options;
  if (timeoutMs === -1) return options;
  return { ...options, timeoutMs: undefined, deadline: Math.min(deadline, Date.now() + timeoutMs) };
}

function late(): InfermuxError {
  return new InfermuxError('DEADLINE_EXCEEDED', 'the request was not answered in time: it waited for capacity');
}
