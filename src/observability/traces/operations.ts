import type { InfermuxError } from '../../common/errors.js';
import type { TraceContext } from '../../contracts/trace-context.js';

/**
 * The message of the tracing channel `infermux:infer` of `node:diagnostics_channel`: a request. Each property is set as
 * soon as it is known.
 */
export interface InferTrace {
  readonly target: string;
  /** The caller's; undefined if it set none. */
  readonly requestId: string | undefined;
  /**
   * The trace that the request belongs to. A subscriber of `start` may replace it; requests that the handler makes then
   * belong to the new one.
   */
  traceContext: TraceContext | undefined;
  /** Whether a handler made the request. */
  readonly isNested: boolean;
  /** Undefined until the target is resolved. */
  model?: string;
  /** Undefined until the target is resolved, and for a handler. */
  version?: number | undefined;
  deployment?: string;
  /** Undefined until the answer. */
  replica?: string;
  /** Requests that shared the onnxruntime call, this one included; undefined until the answer. */
  batchSize?: number;
  /** Times in milliseconds, as in `InferenceResult`; undefined until the answer. */
  timings?: { readonly queueMs: number; readonly loadMs: number; readonly runMs: number; readonly totalMs: number };
  /** The answer; undefined until then. */
  result?: unknown;
  /** The error, the same `InfermuxError` that the caller gets. */
  error?: unknown;
}

/** The message of the tracing channel `infermux:load` of `node:diagnostics_channel`: a load of a session. */
export interface LoadTrace {
  readonly model: string;
  /** Undefined for a handler's own model. */
  readonly version: number | undefined;
  readonly replica: string;
  /** Whether the session has several threads. */
  readonly isWide: boolean;
  /** Milliseconds; undefined until the load has succeeded. */
  loadMs?: number;
  /** Bytes of the model's files; undefined until the load has succeeded. */
  bytes?: number;
  error?: InfermuxError;
}

/**
 * The message of the tracing channel `infermux:run` of `node:diagnostics_channel`: requests that were sent to a replica
 * together.
 */
export interface RunTrace {
  readonly model: string;
  /** Undefined for a handler. */
  readonly version: number | undefined;
  readonly deployment: string;
  readonly replica: string;
  /** Whether the session has several threads. */
  readonly isWide: boolean;
  /** Number of requests. Those that can be batched run as one onnxruntime call, the others one by one. */
  readonly size: number;
  /** Those of them that were published on `infermux:infer`. */
  readonly requests: readonly InferTrace[];
  /** Milliseconds that they waited for a load of the model; undefined until the answer. */
  loadMs?: number;
  /**
   * Why the replica did not answer; the requests may run again in another one. The error of a single request is in its
   * own trace.
   */
  error?: InfermuxError;
}
