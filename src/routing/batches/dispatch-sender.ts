import type { Clock } from '../../common/clock.js';
import { toInfermuxError } from '../../common/errors.js';
import type { DispatcherObserver } from '../dispatcher-options.js';
import type { RoutedModel } from '../pending-request.js';
import type { Placement } from '../placement/placement.js';
import type { Candidate, RoutableReplica } from '../placement/replicas/candidate.js';
import type { AcceptedRequests } from '../queues/accepted-requests.js';
import type { ModelQueue } from '../queues/model-queue.js';
import type { QueueLimit } from '../queues/queue-limit.js';
import type { AnsweredDispatches } from './answered-dispatches.js';
import type { FailedRequests } from './failed-requests.js';
import type { GivenDispatches } from './given-dispatches.js';
import { type DispatchScope, takeDispatch, toRoutedGroup } from './take-dispatch.js';

/** The parts of a dispatcher that follow a dispatch. */
export interface DispatchParts<R extends RoutableReplica> {
  readonly placement: Placement<R>;
  readonly accepted: AcceptedRequests;
  readonly limit: QueueLimit;
  readonly given: GivenDispatches<R>;
  readonly answers: AnsweredDispatches<R>;
  readonly failures: FailedRequests;
}

export interface DispatchSenderEnvironment {
  /** Returns a number that is higher than those of all requests that have arrived, and no later one's. */
  nextSequence(): number;
  /** A replica has answered so many requests. Their callers are told after this. */
  answered(requests: number): void;
  /** A dispatch of the queue's requests is over. */
  over(queue: ModelQueue): void;
}

const NONE: readonly string[] = [];

/** Gives requests to replicas in dispatches, and takes care that each gets an answer. */
export class DispatchSender<R extends RoutableReplica> {
  readonly #parts: DispatchParts<R>;
  readonly #clock: Clock;
  readonly #observer: DispatcherObserver;
  readonly #environment: DispatchSenderEnvironment;

  constructor(
    parts: DispatchParts<R>,
    clock: Clock,
    observer: DispatcherObserver,
    environment: DispatchSenderEnvironment,
  ) {
    this.#parts = parts;
    this.#clock = clock;
    this.#observer = observer;
    this.#environment = environment;
  }

  /**
   * Gives the replica the next requests of the queue, from one to `most`.
   *
   * @param wide the model to run instead of the queue's, with several threads.
   */
  give(
    queue: ModelQueue,
    candidate: Candidate<R>,
    most: number,
    scope: DispatchScope | undefined,
    wide: RoutedModel | undefined,
  ): void {
    const { placement, accepted, limit, given, answers, failures } = this.#parts;
    const { replica } = candidate;
    const { model: narrow, batching } = queue;
    const dispatch = takeDispatch(queue, most, scope);
    if (dispatch.requests === 0) return;
    dispatch.accepted = accepted.size;
    dispatch.wide = wide;
    const now = this.#clock.now();
    queue.lastGivenAt = now;
    for (const { requests } of dispatch.groups) {
      for (const pending of requests) {
        limit.left(pending);
        pending.attempts += 1;
        pending.dispatchedAt = now;
        this.#observer.waited(now - pending.acceptedAt);
      }
    }
    limit.drained(dispatch.requests);
    placement.given(candidate, queue, dispatch, this.#environment.nextSequence());
    given.add(replica, dispatch);
    const model = wide ?? narrow;
    this.#observer.given(replica.id, model, dispatch);
    const spare = replica.models.has(model.key) ? NONE : placement.spareOn(candidate);
    replica.run({ model, groups: dispatch.groups.map(toRoutedGroup), spare, verify: batching.needsProof }).then(
      (answer) => {
        given.delete(replica, dispatch);
        if (dispatch.trace !== undefined) this.#observer.ended(dispatch, answer.loadMs, undefined);
        // Waiting requests go first, then the answers: their callers will ask again, and the replica must not wait.
        placement.router.completed(candidate, dispatch, answer);
        placement.answered(candidate, queue, dispatch, this.#environment.nextSequence());
        this.#environment.over(queue);
        this.#environment.answered(dispatch.requests);
        try {
          answers.answer(queue, dispatch, candidate, answer);
        } catch (cause) {
          // Memory for the copies may be lacking. Requests without an answer get this error.
          failures.failAll(dispatch, cause);
        }
      },
      (cause: unknown) => {
        const isAlone = given.failed(replica, dispatch, cause);
        if (dispatch.trace !== undefined) this.#observer.ended(dispatch, 0, toInfermuxError(cause));
        // Before the requests wait again: then they have other times.
        placement.router.completed(candidate, dispatch, toInfermuxError(cause));
        failures.failAll(dispatch, cause, isAlone);
        placement.answered(candidate, queue, dispatch, this.#environment.nextSequence());
        this.#environment.over(queue);
      },
    );
    placement.router.routed(candidate, queue, dispatch);
  }
}
