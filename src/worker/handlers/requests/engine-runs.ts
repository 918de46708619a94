import { check, isObject, isSignal } from '../../../common/checks.js';
import { InfermuxError, messageOf, readingInput, show } from '../../../common/errors.js';
import { compact } from '../../../common/values/compact.js';
import { fromErrorRecord } from '../../../common/values/error-record.js';
import type { HandlerEngine, NestedRunOptions, RequestTerms } from '../../../contracts/handler.js';
import type { ReplicaEvent } from '../../../protocol/events.js';
import type { EngineAnswerMessage } from '../../../protocol/messages.js';
import { unminded } from '../unminded.js';

/** What a request within another one has of it. */
export type InheritedTerms = Pick<RequestTerms, 'requestId' | 'traceContext'>;

/** Sends what handlers run in the engine to the calling thread. */
export class EngineRuns {
  readonly #post: (event: ReplicaEvent) => void;
  readonly #unanswered = new Map<number, (message: EngineAnswerMessage) => void>();
  #lastRun = 0;

  constructor(post: (event: ReplicaEvent) => void) {
    this.#post = post;
  }

  /** The engine, as the handler sees it that has this request. */
  of(ticket: number, terms: InheritedTerms): HandlerEngine {
    return {
      run: <Result>(target: string, request: unknown, options?: NestedRunOptions) =>
        unminded(this.#run(ticket, terms, target, request, options) as Promise<Result>),
    };
  }

  answered(message: EngineAnswerMessage): void {
    this.#unanswered.get(message.run)?.(message);
    this.#unanswered.delete(message.run);
  }

  async #run(
    ticket: number,
    terms: InheritedTerms,
    target: string,
    request: unknown,
    given: NestedRunOptions | undefined,
  ): Promise<unknown> {
    // The request within it has the same ones, unless it names others.
    const { signal, ...own } = readingInput<NestedRunOptions>('runOptions', () => ({
      ...check('runOptions', given ?? {}, isObject),
    }));
    const { requestId = terms.requestId, traceContext = terms.traceContext } = own;
    const options = { ...own, requestId, ...(traceContext === undefined ? {} : { traceContext }) };
    if (signal !== undefined) check('runOptions.signal', signal, isSignal);
    if (signal?.aborted === true)
      throw new InfermuxError('CANCELLED', 'the request was cancelled', { cause: signal.reason });
    this.#lastRun += 1;
    const run = this.#lastRun;
    try {
      this.#post({ kind: 'engine-run', run, ticket, target, request: compact(request), options });
    } catch (cause) {
      const message = `the request for ${show(target)} cannot be cloned: ${messageOf(cause)}`;
      throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
    }
    const cancel = () => this.#post({ kind: 'engine-cancel', run });
    signal?.addEventListener('abort', cancel, { once: true });
    const { answer } = await new Promise<EngineAnswerMessage>((resolve) => this.#unanswered.set(run, resolve));
    signal?.removeEventListener('abort', cancel);
    if ('error' in answer) throw fromErrorRecord(answer.error);
    return answer.value;
  }
}
