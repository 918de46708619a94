import { InfermuxError } from '../../common/errors.js';
import { toErrorRecord } from '../../common/values/error-record.js';
import type { RunOptions } from '../../contracts/run-options.js';
import type { ReplicaEvent } from '../../protocol/events.js';
import type { Replica } from '../../replicas/replica.js';
import type { Dispatcher } from '../../routing/dispatcher.js';
import type { RequestScope } from './request-intake.js';
import { readRunOptions } from './run-options.js';

type EngineRun = Extract<ReplicaEvent, { readonly kind: 'engine-run' }>;

/** A handler that calls itself, perhaps by way of others, would go on until memory is used up. */
const MOST_DEPTH = 16;

/** Submits a request that is part of another one. */
type SubmitNested = (target: string, request: unknown, options: RunOptions, within: RequestScope) => Promise<unknown>;

/** Runs in the engine what requests of handlers ask for, with the deadline of their own request. */
export class NestedRequests {
  readonly #submit: SubmitNested;

  constructor(submit: SubmitNested) {
    this.#submit = submit;
  }

  /** @param dispatcher of the replica's deployment. */
  run(dispatcher: Dispatcher<Replica>, replica: Replica, { run, ticket, target, request, options }: EngineRun): void {
    const { nested } = replica.handler;
    const terms = nested.begin(run, ticket);
    if (terms === undefined) {
      nested.refuse(run);
      return;
    }
    // The replica has room for such requests while it waits.
    dispatcher.handled.awaitingChanged(replica);
    const { path, deadline, isShadow, signal } = terms;
    const answer = async () => {
      if (path.length >= MOST_DEPTH) throw tooDeep([...path, target]);
      const own = readRunOptions({ ...options, signal });
      if (own.waitForCapacityMs !== undefined) throw waits();
      const within = { path, deadline, isShadow, stream: undefined, trace: undefined };
      return this.#submit(target, request, own, within);
    };
    answer()
      .then(
        (value) => nested.answer(run, { value }),
        (error: unknown) => nested.answer(run, { error: toErrorRecord(error) }),
      )
      .then(() => dispatcher.handled.awaitingChanged(replica));
  }
}

function waits(): InfermuxError {
  const message =
    'waitForCapacityMs is for engine.run: a request that waits within another keeps a place of its replica';
  return new InfermuxError('INVALID_ARGUMENT', message);
}

function tooDeep(path: readonly string[]): InfermuxError {
  const message = `requests of handlers are ${MOST_DEPTH} deep within each other; is there a cycle? ${path.join(' → ')}`;
  return new InfermuxError('FAILED_PRECONDITION', message);
}
