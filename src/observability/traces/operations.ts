import type { InfermuxError } from '../../common/errors.js';
import type { TraceContext } from '../../contracts/trace-context.js';

/** A request, as the channel `infermux:infer` tells of it. Each fact is set as soon as it is known. */
export interface InferTrace {
  readonly target: string;
  /** The caller's; undefined if it named none. */
  readonly requestId: string | undefined;
  /**
   * The trace that the request is part of. A subscriber of `start` may set another one: a handler's requests are then part
   * of that.
   */
  traceContext: TraceContext | undefined;
  /** Whether a handler made the request, within one of its own. */
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
  /** Why the request failed, an `InfermuxError` as its caller gets it. */
  error?: unknown;
}

/** A load of a session, as the channel `infermux:load` tells of it. */
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

/** Requests that a replica was given in one message, as the channel `infermux:run` tells of them. */
export interface RunTrace {
  readonly model: string;
  /** Undefined for a handler. */
  readonly version: number | undefined;
  readonly deployment: string;
  readonly replica: string;
  /** Whether the session has several threads. */
  readonly isWide: boolean;
  /** How many requests there are. Those that can be joined run as one onnxruntime call, the others one by one. */
  readonly size: number;
  /** Those of them that `infermux:infer` has told of. */
  readonly requests: readonly InferTrace[];
  /** Milliseconds that they waited for a load of the model; undefined until the answer. */
  loadMs?: number;
  /** Why the message has no answer; its requests may run elsewhere. A request that failed by itself is told by its own trace. */
  error?: InfermuxError;
}
