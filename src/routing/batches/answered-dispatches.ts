import type { Clock } from '../../common/clock.js';
import type { RunBars } from '../bars/run-bars.js';
import type { DispatcherObserver } from '../dispatcher-options.js';
import type { Candidate, RoutableReplica } from '../placement/replicas/candidate.js';
import type { AcceptedRequests } from '../queues/accepted-requests.js';
import type { ModelQueue } from '../queues/model-queue.js';
import { deliverAnswers } from './deliver-answers.js';
import type { FailedRequests } from './failed-requests.js';
import type { RoutedAnswer } from './routed-dispatch.js';
import type { PendingDispatch } from './take-dispatch.js';

type AnswersObserver = Pick<DispatcherObserver, 'answered' | 'called' | 'batchingSwitchedOff'>;

/** The replica took `runMs` milliseconds in all for `requests` requests of the dispatch, which came from the queue. */
export type WorkObserver<R extends RoutableReplica> = (
  candidate: Candidate<R>,
  queue: ModelQueue,
  dispatch: PendingDispatch,
  requests: number,
  runMs: number,
) => void;

/** Gives each request of an answered dispatch its result or error, and learns from the answer how long calls take. */
export class AnsweredDispatches<R extends RoutableReplica> {
  readonly #accepted: AcceptedRequests;
  readonly #failures: FailedRequests;
  readonly #bars: Pick<RunBars, 'answered'>;
  readonly #clock: Clock;
  readonly #observer: AnswersObserver;
  readonly #worked: WorkObserver<R>;

  constructor(
    accepted: AcceptedRequests,
    failures: FailedRequests,
    bars: Pick<RunBars, 'answered'>,
    clock: Clock,
    observer: AnswersObserver,
    worked: WorkObserver<R>,
  ) {
    this.#accepted = accepted;
    this.#failures = failures;
    this.#bars = bars;
    this.#clock = clock;
    this.#observer = observer;
    this.#worked = worked;
  }

  /** Answers a dispatch's requests. Throws when memory for the copies is lacking; some requests then have answers. */
  answer(queue: ModelQueue, dispatch: PendingDispatch, candidate: Candidate<R>, answer: RoutedAnswer): void {
    const { model, batching, times } = queue;
    const { verification, loadMs } = answer;
    if (verification?.mismatch !== undefined) {
      if (batching.switchOff()) this.#observer.batchingSwitchedOff(model, verification.mismatch);
    } else if (verification !== undefined) batching.prove();
    this.#bars.answered(model.key);
    const now = this.#clock.now();
    const result = {
      model,
      outputs: {},
      replica: candidate.id,
      batchSize: 0,
      queueMs: 0,
      loadMs,
      runMs: 0,
      totalMs: 0,
    };
    let ran = 0;
    let totalRunMs = 0;
    deliverAnswers(dispatch, answer, {
      called: ({ apartBytes }, requests, rows, runMs, isRight) => {
        // A refused call took no time, and does not show how long a call takes.
        if (runMs > 0) {
          this.#observer.called(model, requests, dispatch.wide !== undefined);
          ran += requests;
          totalRunMs += runMs;
        }
        // How long a narrow call takes is another question.
        if (!isRight || dispatch.wide !== undefined) return;
        times.calls.add(Math.max(1, rows), runMs);
        if (apartBytes > 0) batching.largeJoins.add(apartBytes, requests, runMs);
      },
      failed: (pending, error) => this.#failures.fail(pending, error),
      refused: (pending, error) => {
        pending.payload?.stream?.failed();
        this.#accepted.reject(pending, () => error);
      },
      answered: (pending, outputs, runMs, batchSize) => {
        if (!this.#accepted.has(pending)) return;
        const { acceptedAt, dispatchedAt } = pending;
        result.outputs = outputs;
        result.batchSize = batchSize;
        result.queueMs = dispatchedAt - acceptedAt;
        result.runMs = runMs;
        result.totalMs = now - acceptedAt;
        this.#observer.answered(model, result);
        this.#accepted.resolve(pending, result);
      },
    });
    if (ran > 0) this.#worked(candidate, queue, dispatch, ran, totalRunMs);
  }
}
