import type { InferenceEngine, InferenceRequest, InferenceResult, RunOptions } from '../../index.js';
import { type AnsweredTensor, answeredTensors } from '../../open-inference/answer-tensors.js';
import { mayHoldJson, requestOf } from '../../open-inference/handler-tensors.js';
import type { InferenceCall } from '../../open-inference/inference-call.js';
import type { AnswerHead } from '../../open-inference/rest/infer-answer.js';
import type { ServedNames } from './served-names.js';
import type { InferenceStatistics } from './statistics.js';

/** The answer to an inference request, before it is written in the form of a protocol. */
export interface InferenceAnswer {
  readonly head: AnswerHead;
  readonly outputs: readonly AnsweredTensor[];
}

/** What a protocol says of a request beside its body. */
export interface Circumstances {
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  /** The client's name for the request; undefined when it has none. */
  readonly requestId: string | undefined;
  /** Milliseconds as of `Date.now()`; undefined: none. */
  readonly deadline?: number | undefined;
}

/** Gives the requests of all protocols to the engine. */
export class Inference {
  readonly #engine: InferenceEngine;
  readonly #names: ServedNames;
  readonly #statistics: InferenceStatistics;

  constructor(engine: InferenceEngine, names: ServedNames, statistics: InferenceStatistics) {
    this.#engine = engine;
    this.#names = names;
    this.#statistics = statistics;
  }

  /**
   * Runs a model or a handler.
   *
   * @param name of the model as the request has it, which the answer repeats.
   * @throws InfermuxError as `engine.infer`; `INVALID_ARGUMENT` for outputs that cannot be answered as asked for.
   */
  async infer(
    name: string,
    call: InferenceCall,
    { signal, requestId, deadline }: Circumstances,
  ): Promise<InferenceAnswer> {
    const { target, feeds, options, id, outputs } = call;
    const isHandled = (outputs !== undefined || mayHoldJson(feeds)) && this.#names.isHandled(target);
    const request = isHandled && mayHoldJson(feeds) ? requestOf(feeds) : feeds;
    const own: InferenceRequest<unknown> = { target, feeds: request, signal };
    // Few requests have more, and the engine looks at each key.
    const terms = own as { -readonly [K in keyof RunOptions]: RunOptions[K] };
    Object.assign(terms, options);
    if (deadline !== undefined) terms.deadline = deadline;
    // A handler's answer has the outputs that the handler gives it.
    if (outputs !== undefined && !isHandled) terms.outputs = outputs.map(({ name }) => name);
    if (requestId !== undefined) terms.requestId = requestId;
    const result = await this.run(own);
    const parameters = call.hasDetails ? detailsOf(result) : undefined;
    const head = { model: name, version: String(result.version), id, parameters };
    return { head, outputs: answeredTensors(result.outputs, call) };
  }

  /** Gives a request to the engine, and counts how it ends. @throws InfermuxError as `engine.infer`. */
  async run(request: InferenceRequest<unknown>): Promise<InferenceResult<unknown>> {
    const began = performance.now();
    try {
      const result = await this.#engine.infer<unknown>(request);
      this.#statistics.answered(result);
      return result;
    } catch (error) {
      this.#failed(request.target, performance.now() - began);
      throw error;
    }
  }

  /**
   * Gives a request for a stream to the engine, and counts how it ends: it has failed also when its client leaves it.
   *
   * @throws InfermuxError as `engine.stream`.
   */
  async *stream(target: string, request: unknown, options: RunOptions): AsyncGenerator<unknown, undefined> {
    const began = performance.now();
    let hasEnded = false;
    try {
      yield* this.#engine.stream(target, request, options);
      hasEnded = true;
    } finally {
      const ms = performance.now() - began;
      if (hasEnded) this.#streamed(target, ms);
      else this.#failed(target, ms);
    }
    return undefined;
  }

  #streamed(target: string, ms: number): void {
    const counted = this.#names.countedAs(target);
    if (counted === undefined) return;
    const timings = { queueMs: 0, loadMs: 0, runMs: ms, totalMs: ms };
    const { id: model, version } = counted;
    this.#statistics.answered({ model, version, deployment: '', batchSize: 1, timings });
  }

  /** Counts a failure of what exists. */
  #failed(target: string, ms: number): void {
    const counted = this.#names.countedAs(target);
    if (counted !== undefined) this.#statistics.failed(counted.id, counted.version, ms);
  }
}

/** What the engine tells of an answer. */
function detailsOf({ model, deployment, replica, batchSize, timings }: InferenceResult<unknown>) {
  const { queueMs: queue_ms, loadMs: load_ms, runMs: run_ms, totalMs: total_ms } = timings;
  return { model, deployment, replica, batch_size: batchSize, queue_ms, load_ms, run_ms, total_ms };
}
