/** The trace that a request belongs to, as in W3C Trace Context (https://www.w3.org/TR/trace-context/). */
export interface TraceContext {
  /**
   * Version, trace, span of the caller and flags, for example
   * `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
   */
  readonly traceparent: string;
  /** Data of tracing systems. Default: none. */
  readonly tracestate?: string | undefined;
}

const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$/;
const MOST_CHARACTERS = 512;

/** Whether a text has the form of `traceparent`. */
export function isTraceparent(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MOST_CHARACTERS && TRACEPARENT.test(value);
}

/** Whether a value has the form of {@link TraceContext}. */
export function isTraceContext(value: unknown): value is TraceContext {
  if (value === null || typeof value !== 'object') return false;
  const { traceparent, tracestate = '' } = value as Partial<Record<keyof TraceContext, unknown>>;
  return isTraceparent(traceparent) && typeof tracestate === 'string' && tracestate.length <= MOST_CHARACTERS;
}

/** Returns the context that two headers tell; undefined without one in the right form, which is to be ignored. */
export function traceContextOf(traceparent: unknown, tracestate: unknown): TraceContext | undefined {
  if (!isTraceparent(traceparent)) return undefined;
  const isState = typeof tracestate === 'string' && tracestate !== '' && tracestate.length <= MOST_CHARACTERS;
  return isState ? { traceparent, tracestate } : { traceparent };
}
