import { createHash } from 'node:crypto';
import { toInfermuxError } from '../../common/errors.js';
import {
  type InferenceEngine,
  type InferenceRequest,
  type InferenceResult,
  InfermuxError,
  type RunOptions,
  type TraceContext,
} from '../../index.js';
import { type AnsweredTensor, answeredTensors } from '../../open-inference/answer-tensors.js';
import { statusesOf } from '../../open-inference/error-statuses.js';
import { areTensors, jsonOf, mayHoldJson, requestOf } from '../../open-inference/handler-tensors.js';
import type { InferenceCall } from '../../open-inference/inference-call.js';
import { bytesOfData } from '../../open-inference/raw-tensors.js';
import type { AnswerHead } from '../../open-inference/rest/infer-answer.js';
import { RepeatedRequests } from './repeated-requests.js';
import type { ServedNames } from './served-names.js';
import type { InferenceStatistics } from './statistics.js';

/** From this status on a failure is the server's. */
const LEAST_OWN_FAULT = 500;
/** What an answer takes that has no tensors, about. */
const GUESSED_BYTES = 4_096;

/** The answer to an inference request, before it is written in the form of a protocol. */
export interface InferenceAnswer {
  readonly head: AnswerHead;
  readonly outputs: readonly AnsweredTensor[];
  /** Milliseconds for which the request waited: for a replica, and for its model to be loaded. */
  readonly queueMs: number;
}

/** What a protocol says of a request beside its body. */
export interface Circumstances {
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
  /** The client's name for the request; undefined when it has none. */
  readonly requestId: string | undefined;
  /** Milliseconds as of `Date.now()`; undefined: none. */
  readonly deadline?: number | undefined;
  /** The trace that the request is part of; undefined: none. */
  readonly traceContext?: TraceContext | undefined;
  /** Another request with the same one is a further try of this one; undefined: each request is another one. */
  readonly idempotencyKey?: string | undefined;
}

/** Gives the requests of all protocols to the engine. */
export class Inference {
  readonly #engine: InferenceEngine;
  readonly #names: ServedNames;
  readonly #statistics: InferenceStatistics;
  readonly #repeated = new RepeatedRequests();

  readonly #answered: (isFailure: boolean) => void;

  /** @param answered called for each answer: whether the request failed, and not by its own fault. */
  constructor(
    engine: InferenceEngine,
    names: ServedNames,
    statistics: InferenceStatistics,
    answered: (isFailure: boolean) => void,
  ) {
    this.#answered = answered;
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
    { signal, requestId, deadline, traceContext, idempotencyKey }: Circumstances,
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
    if (traceContext !== undefined) terms.traceContext = traceContext;
    const result = await (idempotencyKey === undefined ? this.run(own) : this.runOnce(own, idempotencyKey));
    const parameters = call.hasDetails ? detailsOf(result) : undefined;
    const head = { model: name, version: String(result.version), id, parameters };
    const { queueMs, loadMs } = result.timings;
    return { head, outputs: answeredTensors(result.outputs, call), queueMs: queueMs + loadMs };
  }

  /** Gives a request to the engine, and counts how it ends. @throws InfermuxError as `engine.infer`. */
  async run(request: InferenceRequest<unknown>): Promise<InferenceResult<unknown>> {
    const began = performance.now();
    try {
      const result = await this.#engine.infer<unknown>(request);
      this.#statistics.answered(result);
      this.#answered(false);
      return result;
    } catch (error) {
      this.#answered(statusesOf(toInfermuxError(error)).http >= LEAST_OWN_FAULT);
      this.#failed(request.target, performance.now() - began);
      throw error;
    }
  }

  /**
   * {@link run} for a request that its client may send again: it runs once. It goes on without the client, which may have
   * lost its connection alone, and beyond the time that this try has.
   */
  async runOnce(request: InferenceRequest<unknown>, key: string): Promise<InferenceResult<unknown>> {
    const { signal: _, timeoutMs, deadline, ...own } = request;
    const { target, feeds } = request;
    const answer = this.#repeated.once(`${target} ${key}`, digestOf(feeds), () => this.run(own), bytesOf, isFinal);
    const leftMs = Math.min(timeoutMs ?? Number.POSITIVE_INFINITY, (deadline ?? Number.POSITIVE_INFINITY) - Date.now());
    if (!Number.isFinite(leftMs) || timeoutMs === -1) return answer;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(tooLate()), Math.max(0, leftMs));
    });
    return Promise.race([answer, late]).finally(() => clearTimeout(timer));
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

const tooLate = () =>
  new InfermuxError(
    'DEADLINE_EXCEEDED',
    'the timeout passed before the answer was there: the request continues, and another try with the same key gets its answer',
  );

/** A text that differs where the inputs do. */
function digestOf(feeds: unknown): string {
  const hash = createHash('sha256');
  if (areTensors(feeds)) {
    for (const [name, { type, dims, data }] of Object.entries(feeds)) {
      hash.update(JSON.stringify([name, type, dims, type === 'string' ? data : '']));
      if (type !== 'string') hash.update(bytesOfData(data));
    }
  } else hash.update(jsonOf(feeds));
  return hash.digest('base64');
}

/** Bytes that an answer takes in memory, about. */
function bytesOf({ outputs }: InferenceResult<unknown>): number {
  if (!areTensors(outputs)) return GUESSED_BYTES + 2 * jsonOf(outputs).length;
  return Object.values(outputs).reduce((sum, { type, data }) => {
    const bytes = type === 'string' ? data.reduce((all, text) => all + 2 * text.length, 0) : data.byteLength;
    return sum + bytes + GUESSED_BYTES;
  }, GUESSED_BYTES);
}

const isFinal = (cause: unknown) => !toInfermuxError(cause).retryable;

/** What the engine tells of an answer. */
function detailsOf({ model, deployment, replica, batchSize, timings }: InferenceResult<unknown>) {
  const { queueMs: queue_ms, loadMs: load_ms, runMs: run_ms, totalMs: total_ms } = timings;
  return { model, deployment, replica, batch_size: batchSize, queue_ms, load_ms, run_ms, total_ms };
}
