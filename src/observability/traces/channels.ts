import { type TracingChannel, tracingChannel } from 'node:diagnostics_channel';
import type { InferTrace, LoadTrace, RunTrace } from './operations.js';

/** Requests: from the call of `run`, `infer` or `stream` to the answer. */
export const inferChannel = channel<InferTrace>('infermux:infer');
/** Loads of sessions. */
export const loadChannel = channel<LoadTrace>('infermux:load');
/** What replicas are given in one message: from the message to its answer. */
export const runChannel = channel<RunTrace>('infermux:run');

function channel<Trace extends object>(name: string): TracingChannel<Trace, Trace> {
  return tracingChannel<Trace, Trace>(name);
}

/** An operation begins whose end is told by an event, and not by a promise. */
export function begin<Trace extends object>(channel: TracingChannel<Trace, Trace>, trace: Trace): Trace {
  channel.start.publish(trace);
  channel.end.publish(trace);
  return trace;
}

/** The end of an operation that {@link begin} told of. `trace.error` is set if it failed. */
export function finish<Trace extends object>(channel: TracingChannel<Trace, Trace>, trace: Trace): void {
  if ('error' in trace && trace.error !== undefined) channel.error.publish(trace);
  channel.asyncStart.publish(trace);
  channel.asyncEnd.publish(trace);
}
