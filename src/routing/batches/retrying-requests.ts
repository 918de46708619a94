import type { Clock } from '../../common/clock.js';
import { cloneError, type InfermuxError } from '../../common/errors.js';
import type { PendingRequest, RoutedModel } from '../pending-request.js';
import type { AcceptedRequests } from '../queues/accepted-requests.js';
import type { QueueLimit } from '../queues/queue-limit.js';

/** The pauses before another try at a load, unless the error names its own: as long as a replica remembers the failure. */
const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 64_000;

export interface RetryingRequestsEnvironment {
  readonly clock: Clock;
  readonly accepted: AcceptedRequests;
  readonly limit: QueueLimit;
  /** As in `DispatcherObserver`. */
  insteadOf(model: RoutedModel): RoutedModel | undefined;
  /** Why no replica runs, if none can be started. */
  outage(): InfermuxError | undefined;
  /** Puts the request into the queue of its model. */
  enqueue(request: PendingRequest): void;
}

interface Pause {
  readonly error: InfermuxError;
  readonly cancel: () => void;
}

/** Requests that wait for another try at a load of their model. They count as waiting, and are in no queue of a model. */
export class RetryingRequests {
  readonly #environment: RetryingRequestsEnvironment;
  readonly #pauses = new Map<PendingRequest, Pause>();
  /** Keys of models that are not served any more, while requests for them end. */
  readonly #leaving = new Set<string>();
  #isClosing = false;

  constructor(environment: RetryingRequestsEnvironment) {
    this.#environment = environment;
  }

  /** The load has failed with this error. @returns false when it is not tried again. */
  add(request: PendingRequest, error: InfermuxError): boolean {
    const { clock, limit } = this.#environment;
    if (this.#isClosing || this.#leaving.has(request.model.key)) return false;
    const pauseMs = error.retryAfterMs ?? Math.min(FIRST_PAUSE_MS * 2 ** request.loadRetries, LONGEST_PAUSE_MS);
    request.loadRetries += 1;
    request.attempts = Math.max(0, request.attempts - 1);
    limit.entered(request);
    this.#pauses.set(request, { error, cancel: clock.schedule(() => this.#goOn(request), pauseMs) });
    return true;
  }

  /** The request is over. @returns false when it does not wait here. */
  remove(request: PendingRequest): boolean {
    const pause = this.#pauses.get(request);
    if (pause === undefined) return false;
    pause.cancel();
    this.#pauses.delete(request);
    this.#environment.limit.left(request);
    return true;
  }

  /** Waits no longer: the dispatcher closes. */
  close(): void {
    this.#isClosing = true;
    for (const request of [...this.#pauses.keys()]) this.#goOn(request, true);
  }

  /** Waits no longer for a model that is not served any more, until its requests have ended. */
  async leave(modelKey: string, ended: Promise<void>): Promise<void> {
    this.#leaving.add(modelKey);
    for (const request of [...this.#pauses.keys()]) if (request.model.key === modelKey) this.#goOn(request, true);
    await ended;
    this.#leaving.delete(modelKey);
  }

  /** @param isLast whether the request waits no longer: it goes to what is in the model's place, or fails. */
  #goOn(request: PendingRequest, isLast = false): void {
    const { accepted, insteadOf, outage, enqueue } = this.#environment;
    const error = this.#pauses.get(request)?.error;
    this.remove(request);
    // Its files may have been mended meanwhile: then another model is in its place.
    const other = insteadOf(request.model);
    const refusal = outage() ?? (isLast && other === undefined ? error : undefined);
    if (refusal !== undefined) {
      accepted.reject(request, () => cloneError(refusal));
      return;
    }
    request.model = other ?? request.model;
    enqueue(request);
  }
}
