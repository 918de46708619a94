import { cloneError, InfermuxError, toInfermuxError } from '../../common/errors.js';
import { isSpent } from '../../tensors/memory/placement.js';
import type { RunBars } from '../bars/run-bars.js';
import type { PendingRequest, RoutedModel } from '../pending-request.js';
import type { LoadBackoff } from '../placement/load-backoff.js';
import type { AcceptedRequests } from '../queues/accepted-requests.js';
import type { PendingDispatch } from './take-dispatch.js';

/** A run has no side effect, so a request whose replica died is given to one more replica. */
const MAX_ATTEMPTS = 2;

export interface FailedRequestsEnvironment {
  /** How often a request waits for another try at a load. */
  readonly loadRetries: number;
  /** Lets the request wait for another try. @returns false when there is none. */
  tryLater(request: PendingRequest, error: InfermuxError): boolean;
  /** Whether a replica has the model. */
  isWarm(modelKey: string): boolean;
  /** Why no replica runs, if none can be started. */
  outage(): InfermuxError | undefined;
  /** As {@link DispatcherObserver.insteadOf}. */
  insteadOf(model: RoutedModel): RoutedModel | undefined;
  /** Puts the request back into its queue. */
  enqueue(request: PendingRequest): void;
}

/** Decides about a request whose run failed: it waits for another replica, or is answered with the error. */
export class FailedRequests {
  readonly #accepted: AcceptedRequests;
  readonly #loadBackoff: LoadBackoff;
  readonly #bars: Pick<RunBars, 'convict'>;
  readonly #environment: FailedRequestsEnvironment;

  constructor(
    accepted: AcceptedRequests,
    loadBackoff: LoadBackoff,
    bars: Pick<RunBars, 'convict'>,
    environment: FailedRequestsEnvironment,
  ) {
    this.#accepted = accepted;
    this.#loadBackoff = loadBackoff;
    this.#bars = bars;
    this.#environment = environment;
  }

  /** @param isAlone whether the replica worked on nothing else. */
  failAll({ groups, requests: count }: PendingDispatch, cause: unknown, isAlone = false): void {
    const error = toInfermuxError(cause);
    for (const { requests } of groups) {
      for (const pending of requests) {
        if (isAlone && count === 1 && isDeath(error)) this.#diedAlone(pending, error);
        if (error.code === 'DEADLINE_EXCEEDED') this.#overrun(pending, cloneError(error), count === 1);
        else this.fail(pending, cloneError(error));
      }
    }
  }

  /**
   * The replica died of this request, or of nothing that it was given. That is found out when the request runs once more;
   * if nobody lets it, because its caller has gone or its stream has begun, it counts as found out.
   */
  #diedAlone(pending: PendingRequest, error: InfermuxError): void {
    // Then it is the load that is to blame.
    if (this.#loadBackoff.loadRefusal(pending.model.key) !== undefined) return;
    const hasBegun = pending.payload?.stream?.hasBegun === true;
    const runsAgain = this.#accepted.has(pending) && !hasBegun && !isLost(pending) && pending.attempts < MAX_ATTEMPTS;
    if (error.code === 'DEADLINE_EXCEEDED' || !runsAgain) this.#bars.convict(pending, error);
  }

  fail(pending: PendingRequest, error: InfermuxError): void {
    if (!this.#accepted.has(pending)) return;
    const { model, payload } = pending;
    // A handler may fail because of a model that its request does not name.
    const isOwnLoad = error.code === 'MODEL_LOAD_FAILED' && payload === undefined;
    if (isOwnLoad && this.#environment.isWarm(model.key) && !isLost(pending)) {
      // The request was spilled: another replica has the model. The file may since have been replaced by a broken one.
      this.#loadBackoff.recordFailure(model, error);
      pending.attempts -= 1;
      this.#environment.enqueue(pending);
      return;
    }
    const other = isOwnLoad && pending.attempts < MAX_ATTEMPTS ? this.#environment.insteadOf(model) : undefined;
    if (other !== undefined && !isLost(pending)) {
      pending.model = other;
      this.#environment.enqueue(pending);
      return;
    }
    const mayRetry = isOwnLoad && pending.loadRetries < this.#environment.loadRetries && !isLost(pending);
    if (mayRetry && this.#environment.tryLater(pending, error)) return;
    if (error.code !== 'REPLICA_FAILED') {
      this.#accepted.reject(pending, () => error);
      return;
    }
    const refusal = this.#environment.outage() ?? this.#loadBackoff.refusal(model.key);
    if (refusal !== undefined || pending.attempts >= MAX_ATTEMPTS)
      this.#accepted.reject(pending, () => cloneError(refusal ?? error));
    else if (payload?.stream?.hasBegun === true) this.#accepted.reject(pending, () => cutOffBy(error));
    else if (isLost(pending)) this.#accepted.reject(pending, () => lostWith(error));
    else this.#environment.enqueue(pending);
  }

  /** The run took too long, and its replica was killed. Of several requests each is tried alone. */
  #overrun(pending: PendingRequest, error: InfermuxError, isAlone: boolean): void {
    if (!this.#accepted.has(pending)) return;
    const mayRetry = !isAlone && pending.attempts < MAX_ATTEMPTS && !isLost(pending);
    if (mayRetry && this.#environment.outage() === undefined) this.#environment.enqueue(pending);
    else this.#accepted.reject(pending, () => error);
  }
}

/** Whether a replica has ended that nobody wanted to end. */
function isDeath({ code, cause }: InfermuxError): boolean {
  if (code === 'DEADLINE_EXCEEDED') return true;
  return code === 'REPLICA_FAILED' && !(cause instanceof InfermuxError && cause.code === 'CANCELLED');
}

/** Whether arrays of the request were transferred to its replica and did not come back. */
function isLost({ feeds }: PendingRequest): boolean {
  return Object.values(feeds).some(isSpent);
}

function cutOffBy(error: InfermuxError): InfermuxError {
  return new InfermuxError('REPLICA_FAILED', `${error.message}; the stream had begun`, { cause: error });
}

function lostWith(error: InfermuxError): InfermuxError {
  const hint = 'the arrays of the request were in it (transfer: true), so it cannot run again: send it again';
  return new InfermuxError('REPLICA_FAILED', `${error.message}; ${hint}`, { cause: error });
}
