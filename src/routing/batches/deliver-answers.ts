import { InfermuxError } from '../../common/errors.js';
import type { Outputs } from '../../tensors/tensor.js';
import type { PendingRequest } from '../pending-request.js';
import type { RoutedAnswer, RoutedCall } from './routed-dispatch.js';
import type { PendingDispatch } from './take-dispatch.js';

export interface AnswerObserver {
  /** A call for so many requests, of which this is the first, took `runMs` for its rows. It failed unless `isRight`. */
  called(first: PendingRequest, requests: number, rows: number, runMs: number, isRight: boolean): void;
  answered(pending: PendingRequest, outputs: Outputs, runMs: number, batchSize: number): void;
  failed(pending: PendingRequest, error: InfermuxError): void;
  /** The handler itself has failed the request: no other replica is asked. */
  refused(pending: PendingRequest, error: InfermuxError): void;
}

/** Goes through a replica's answer and reports each call and each of its requests. */
export function deliverAnswers({ groups }: PendingDispatch, { calls }: RoutedAnswer, observer: AnswerObserver): void {
  for (const [index, { requests, rows }] of groups.entries()) {
    let first = 0;
    for (const call of calls[index] ?? []) {
      const rowsOfOne = rows / requests.length;
      deliverCall(requests, first, call, call.joined ? rowsOfOne * call.requests : rowsOfOne, observer);
      first += call.requests;
    }
    // A replica that leaves out a request has a defect, but its caller must not wait for ever.
    for (; first < requests.length; first += 1) observer.failed(requests[first] as PendingRequest, unanswered());
  }
}

function deliverCall(
  requests: readonly PendingRequest[],
  first: number,
  call: RoutedCall,
  rows: number,
  observer: AnswerObserver,
): void {
  const { error, errors, joined, runMs } = call;
  const batchSize = joined ? call.requests : 1;
  const outputs = call.outputs();
  const last = Math.min(first + call.requests, requests.length);
  for (let index = first; index < last; index += 1) {
    const pending = requests[index] as PendingRequest;
    const own = outputs[index - first];
    // A handler may return undefined, so the length tells whether there is an answer.
    const refusal = errors?.[index - first];
    const isRight = error === undefined && refusal === undefined && index - first < outputs.length;
    const ownMs = (joined ? runMs[0] : runMs[index - first]) ?? 0;
    if (!joined || index === first) observer.called(pending, batchSize, rows, ownMs, isRight);
    if (isRight) observer.answered(pending, own as Outputs, ownMs, batchSize);
    else if (refusal !== undefined) observer.refused(pending, refusal);
    else observer.failed(pending, error ?? unanswered());
  }
}

function unanswered(): InfermuxError {
  return new InfermuxError('INTERNAL', 'the replica left the request without an answer');
}
