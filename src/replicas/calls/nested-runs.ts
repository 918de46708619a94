import { InfermuxError } from '../../common/errors.js';
import { toErrorRecord } from '../../common/values/error-record.js';
import type { Answer } from '../../protocol/messages.js';
import type { OngoingDispatches } from './ongoing-dispatches.js';
import type { ReplicaCalls } from './replica-calls.js';

/** The terms of a request that a handler makes. */
export interface NestedTerms {
  /** The targets of the requests within which it is made, the outermost first. */
  readonly path: readonly string[];
  /** Whether nobody reads the answer of that one. */
  readonly isShadow: boolean;
  /** Clock time by which it must be answered. */
  readonly deadline: number | undefined;
  /** Aborted when the handler gives it up, and when the handler's own request is over. */
  readonly signal: AbortSignal;
}

/** What the requests of a replica's handler run in the engine. It ends with the request. */
export class NestedRuns {
  readonly #ongoing: OngoingDispatches;
  readonly #calls: ReplicaCalls;

  constructor(ongoing: OngoingDispatches, calls: ReplicaCalls) {
    this.#ongoing = ongoing;
    this.#calls = calls;
  }

  /** Dispatches that run something in the engine, and wait for it for all that is known. */
  get awaiting(): number {
    return this.#ongoing.awaiting;
  }

  /** The request with this ticket runs something. @returns its terms; undefined when the request is over. */
  begin(run: number, ticket: number): NestedTerms | undefined {
    const dispatch = this.#ongoing.find(ticket);
    if (dispatch === undefined) return undefined;
    const { payloads } = dispatch;
    const controller = new AbortController();
    dispatch.runs.set(run, controller);
    // Of a batch the last answer counts.
    const deadline = Math.max(...payloads.map(({ deadline: own = Number.POSITIVE_INFINITY }) => own));
    return {
      // Those of a batch are as deep as each other.
      path: payloads[0]?.path ?? [],
      isShadow: payloads.every((payload) => payload.isShadow),
      deadline: deadline === Number.POSITIVE_INFINITY ? undefined : deadline,
      signal: controller.signal,
    };
  }

  /** Tells the handler what came of the run. */
  answer(run: number, outcome: Answer<unknown>): void {
    this.#ongoing.running(run)?.runs.delete(run);
    this.#calls.ask({ kind: 'engine-answer', run, answer: outcome }).catch((cause) => {
      // The answer cannot be sent, or the replica is gone.
      const error = toErrorRecord(cause);
      this.#calls.ask({ kind: 'engine-answer', run, answer: { error } }).catch(() => undefined);
    });
  }

  refuse(run: number): void {
    const error = toErrorRecord(new InfermuxError('CANCELLED', 'the request that made this one is over'));
    this.answer(run, { error });
  }

  /** The handler gave it up. */
  cancel(run: number): void {
    this.#ongoing.running(run)?.runs.get(run)?.abort();
  }
}
