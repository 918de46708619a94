import type { Clock } from '../../common/clock.js';
import { cloneError, InfermuxError, toInfermuxError } from '../../common/errors.js';
import type { RunOptions } from '../../contracts/run-options.js';
import type { Route } from '../../endpoints/endpoints.js';
import { type KeptRequest, keepRequest } from './kept-request.js';

/** How a request stands before it is submitted. */
export interface Outlook {
  /** What its endpoint chose for it; undefined when the target is none. */
  readonly route: Route | undefined;
  /** Why nobody can take it now; undefined when somebody can. */
  readonly refusal: InfermuxError | undefined;
  /** The model that is to be looked for, and may not be there. */
  readonly sought: string | undefined;
  /** Whether a handler takes it; undefined when it is not known what the target is. */
  readonly isHandled: boolean | undefined;
  /** The time-out of requests that name none, in milliseconds; -1 for none. */
  readonly defaultTimeoutMs: number;
}

/** Submits a request, by the route that was chosen for it. */
export type Submit<T> = (request: unknown, options: RunOptions, route: Route | undefined) => Promise<T>;

export interface CapacityWaitsEnvironment {
  readonly clock: Clock;
  /** How the request stands now. Never throws. */
  outlookOf(target: string, options: RunOptions): Outlook;
  /** Looks for a model, for as long as `leave` is not called. */
  lookFor(model: string): { readonly found: Promise<unknown>; leave(): void };
  /** Most requests that may wait; -1 for no limit. */
  most(): number;
  /** A request has waited in vain. */
  failed(error: InfermuxError): void;
  /** Keeps the process alive while the work goes on. */
  during<T>(work: () => Promise<T>): Promise<T>;
}

/** A waiter looks again in some 40 µs: so many of them hold up the event loop for about 10 ms. */
const LOOKS_IN_A_TURN = 256;

/** Lets requests wait for somebody who can take them: a deployment without replicas, or an endpoint that is not set yet. */
export class CapacityWaits {
  readonly #environment: CapacityWaitsEnvironment;
  /** In order of arrival. */
  readonly #waiting = new Set<() => void>();
  #closed: InfermuxError | undefined;

  constructor(environment: CapacityWaitsEnvironment) {
    this.#environment = environment;
  }

  /**
   * Submits the request once: at once if somebody can take it or it does not want to wait, or else when somebody can.
   *
   * @throws what `submit` throws. The error of a request that has waited in vain says why nobody could take it last.
   */
  run<T>(target: string, request: unknown, options: RunOptions, submit: Submit<T>): Promise<T> {
    const { waitForCapacityMs = 0 } = options;
    if (waitForCapacityMs === 0) return submit(request, options, undefined);
    const outlook = this.#environment.outlookOf(target, options);
    if (isOpen(outlook)) return submit(request, options, outlook.route);
    const most = this.#environment.most();
    if (most !== -1 && this.#waiting.size >= most)
      throw new InfermuxError('QUEUE_FULL', `${most} requests wait for capacity already (maxQueuedRequests)`);
    const kept = keepRequest(request, options, outlook.isHandled);
    return this.#environment.during(() => this.#submitLater(target, kept, options, submit));
  }

  /** Somebody may be able to take requests who could not before. */
  changed(): void {
    this.#lookAgain([...this.#waiting]);
  }

  #lookAgain(waiting: readonly (() => void)[]): void {
    for (const look of waiting.slice(0, LOOKS_IN_A_TURN)) look();
    if (waiting.length > LOOKS_IN_A_TURN) setImmediate(() => this.#lookAgain(waiting.slice(LOOKS_IN_A_TURN)));
  }

  /** Refuses what waits. */
  close(error: InfermuxError): void {
    this.#closed ??= error;
    this.changed();
  }

  async #submitLater<T>(target: string, kept: KeptRequest, options: RunOptions, submit: Submit<T>): Promise<T> {
    let answer: Promise<T>;
    try {
      const { route, isHandled, deadline } = await this.#untilOpen(target, options);
      // The time-out has begun when the request was made, and not when somebody takes it.
      const left = deadline === undefined ? options : { ...options, timeoutMs: undefined, deadline };
      answer = submit(isHandled === true ? kept.value : kept.feeds, left, route);
    } catch (cause) {
      this.#environment.failed(toInfermuxError(cause));
      throw cause;
    } finally {
      kept.release?.();
    }
    return answer;
  }

  /** @returns how the request stands when it is to be submitted, and when its caller stops waiting. */
  async #untilOpen(target: string, options: RunOptions): Promise<Outlook & { readonly deadline: number | undefined }> {
    const { clock, outlookOf } = this.#environment;
    const { signal, waitForCapacityMs = 0 } = options;
    const until = clock.now() + waitForCapacityMs;
    const madeAt = Date.now();
    let missed: InfermuxError | undefined;
    for (;;) {
      if (this.#closed !== undefined) throw cloneError(this.#closed);
      if (signal?.aborted === true)
        throw new InfermuxError('CANCELLED', 'the request was cancelled', { cause: signal.reason });
      const outlook = outlookOf(target, options);
      const deadline = deadlineOf(options, outlook.defaultTimeoutMs, madeAt);
      if (isOpen(outlook)) return { ...outlook, deadline };
      missed = outlook.refusal ?? missed;
      if (deadline !== undefined && Date.now() >= deadline) throw late();
      const leftMs = until - clock.now();
      if (leftMs <= 0) {
        if (missed !== undefined) throw missed;
        // A search goes on, and the request waits for it as any other.
        return { ...outlook, deadline };
      }
      const pauseMs = Math.min(leftMs, (deadline ?? Number.POSITIVE_INFINITY) - Date.now());
      missed = (await this.#untilChanged(pauseMs, signal, outlook.sought)) ?? missed;
    }
  }

  /**
   * Resolves when something has changed, the model was found, the time is over or the signal is aborted.
   *
   * @returns why the model was not found, if it was looked for in vain meanwhile.
   * @throws InfermuxError why the search failed.
   */
  #untilChanged(leftMs: number, signal: AbortSignal | undefined, sought: string | undefined) {
    const { clock, lookFor } = this.#environment;
    return new Promise<InfermuxError | undefined>((resolve, reject) => {
      let missed: InfermuxError | undefined;
      const search = sought === undefined ? undefined : lookFor(sought);
      const end = () => {
        this.#waiting.delete(end);
        cancel();
        signal?.removeEventListener('abort', end);
        search?.leave();
        resolve(missed);
      };
      const cancel = clock.schedule(end, leftMs);
      this.#waiting.add(end);
      signal?.addEventListener('abort', end, { once: true });
      search?.found.then(end, (cause: unknown) => {
        const error = toInfermuxError(cause);
        if (error.code === 'MODEL_NOT_FOUND') {
          // It may come yet.
          missed = error;
          return;
        }
        reject(error);
        end();
      });
    });
  }
}

function isOpen({ refusal, sought }: Outlook): boolean {
  return refusal === undefined && sought === undefined;
}

/** When the caller stops waiting, as of `Date.now()`; undefined for never. */
function deadlineOf({ timeoutMs, deadline }: RunOptions, defaultTimeoutMs: number, madeAt: number): number | undefined {
  const limitMs = timeoutMs ?? (deadline === undefined ? defaultTimeoutMs : -1);
  if (limitMs === -1) return deadline;
  return Math.min(deadline ?? Number.POSITIVE_INFINITY, madeAt + limitMs);
}

function late(): InfermuxError {
  return new InfermuxError('DEADLINE_EXCEEDED', 'the request was not answered in time: it waited for capacity');
}
