import type { InfermuxError } from '../../common/errors.js';
import { fromErrorRecord } from '../../common/values/error-record.js';
import { splitOutputs } from '../../protocol/call-answers.js';
import type { Answer, CallAnswer, RequestGroup, RunAnswer, Verification } from '../../protocol/messages.js';
import type { Outputs } from '../../tensors/tensor.js';

/** The answer to one dispatch. */
export interface ReplicaAnswer {
  /** Milliseconds that the dispatch waited for a load. */
  readonly loadMs: number;
  readonly verification: Verification | undefined;
  /** The calls made for each group; they answer its requests in order. */
  readonly calls: readonly (readonly ReplicaCall[])[];
}

/** One onnxruntime call for several requests, or several calls for one request each with equal dims or errors. */
export interface ReplicaCall {
  readonly requests: number;
  /** Whether the requests ran as one call. */
  readonly joined: boolean;
  /** Milliseconds of each call. */
  readonly runMs: readonly number[];
  readonly error: InfermuxError | undefined;
  /** Why single requests of the call have no outputs, if a handler answered it. */
  readonly errors: readonly (InfermuxError | undefined)[] | undefined;
  /** Each request's outputs in memory of their own, or the handler's answer to it; empty when the call failed. */
  outputs(): readonly Outputs[];
}

/** Returns the value of an answer. @throws InfermuxError the error that the thread answered with. */
export function unwrap<T>(answer: Answer<T>): T {
  if ('error' in answer) throw fromErrorRecord(answer.error);
  return answer.value;
}

export function readAnswer(groups: readonly RequestGroup[], { loadMs, verification, calls }: RunAnswer): ReplicaAnswer {
  return {
    loadMs,
    verification,
    calls: calls.map((ofGroup, index) => ofGroup.map((call) => readCall(call, groups[index]?.rows))),
  };
}

/** Reads one call. Its outputs are split only on demand: the next dispatch goes first. */
function readCall(call: CallAnswer, rows: RequestGroup['rows']): ReplicaCall {
  const { requests, joined, runMs, outputs, error, results } = call;
  if (results !== undefined) {
    const errors = results.map((result) => ('error' in result ? fromErrorRecord(result.error) : undefined));
    // The caller of a handler knows the form of its answer.
    const values = () => results.map((result) => ('value' in result ? result.value : undefined) as Outputs);
    return { requests, joined, runMs, error: undefined, errors, outputs: values };
  }
  return {
    errors: undefined,
    requests,
    joined,
    runMs,
    error: error && fromErrorRecord(error),
    outputs: () => (outputs === undefined ? [] : splitOutputs(outputs, requests, joined ? rows : undefined)),
  };
}
