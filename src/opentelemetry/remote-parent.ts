import { type Context, context, createTraceState, ROOT_CONTEXT, type SpanContext, trace } from '@opentelemetry/api';
import type { TraceContext } from '../contracts/trace-context.js';

/**
 * Returns the context that is the parent of a request's span: the one that is active, if it belongs to the same trace or
 * the request names none; otherwise the trace that the request names.
 */
export function parentOf(named: TraceContext | undefined): Context {
  const active = context.active();
  if (named === undefined) return active;
  const remote = readSpanContext(named);
  // An HTTP server's span, for example, that is part of the trace which the headers name, and nearer.
  if (trace.getSpanContext(active)?.traceId === remote.traceId) return active;
  return trace.setSpanContext(ROOT_CONTEXT, remote);
}

/** Returns how requests name a span of this process. */
export function writeTraceContext({ traceId, spanId, traceFlags, traceState }: SpanContext): TraceContext {
  const traceparent = `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, '0')}`;
  const tracestate = traceState?.serialize();
  return tracestate === undefined || tracestate === '' ? { traceparent } : { traceparent, tracestate };
}

/** The form of `traceparent` was checked when the request was read. */
function readSpanContext({ traceparent, tracestate }: TraceContext): SpanContext {
  const [, traceId = '', spanId = '', flags = ''] = traceparent.split('-');
  const own = { traceId, spanId, traceFlags: Number.parseInt(flags, 16) & 1, isRemote: true };
  return tracestate === undefined ? own : { ...own, traceState: createTraceState(tracestate) };
}
