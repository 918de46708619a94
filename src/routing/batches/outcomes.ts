import { InfermuxError } from '../../common/errors.js';
import type { RequestOutcome } from '../../contracts/request-router.js';
import type { PendingRequest } from '../pending-request.js';
import type { RoutedAnswer, RoutedCall } from './routed-dispatch.js';
import type { PendingDispatch } from './take-dispatch.js';

/**
 * Returns what became of each request of the dispatch, in their order. The outputs are not read: that copies them.
 *
 * @param ended the replica's answer, or why there is none.
 */
export function outcomesOf({ groups }: PendingDispatch, ended: RoutedAnswer | InfermuxError): RequestOutcome[] {
  const outcomes: RequestOutcome[] = [];
  for (const [group, { requests }] of groups.entries()) {
    const calls = ended instanceof InfermuxError ? [] : (ended.calls[group] ?? []);
    let first = 0;
    for (const call of calls) {
      const own = requests.slice(first, first + call.requests);
      for (const [index, request] of own.entries()) outcomes.push(outcomeOf(request, call, index));
      first += call.requests;
    }
    const code = ended instanceof InfermuxError ? ended.code : 'INTERNAL';
    for (const request of requests.slice(first)) outcomes.push(failed(request, code));
  }
  return outcomes;
}

function outcomeOf(request: PendingRequest, call: RoutedCall, index: number): RequestOutcome {
  const error = call.error ?? call.errors?.[index];
  const runMs = (call.joined ? call.runMs[0] : call.runMs[index]) ?? 0;
  const batchSize = call.joined ? call.requests : 1;
  if (error !== undefined && runMs === 0) return failed(request, error.code);
  return Object.freeze({
    ...{ ok: error === undefined, code: error?.code, runMs, batchSize },
    queueMs: queueMsOf(request),
  });
}

function failed(request: PendingRequest, code: InfermuxError['code']): RequestOutcome {
  return Object.freeze({ ok: false, code, runMs: 0, queueMs: queueMsOf(request), batchSize: 0 });
}

function queueMsOf({ dispatchedAt, acceptedAt }: PendingRequest): number {
  return dispatchedAt - acceptedAt;
}
