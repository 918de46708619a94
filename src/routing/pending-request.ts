import type { Batching } from '../contracts/batching.js';
import type { ModelReference } from '../contracts/model-reference.js';
import type { Outputs, TensorFeeds } from '../tensors/tensor.js';

/** What routing and replicas need to know of a model. */
export interface RoutedModel extends ModelReference {
  /** Its own setting; the engine's when undefined. */
  readonly batching?: Batching | undefined;
}

/** What a replica is asked to compute, and on what terms. */
export interface RoutedRequest {
  readonly model: RoutedModel;
  /** Read whenever the request is given to a replica. Empty where it has a payload. */
  readonly feeds: TensorFeeds;
  /** For a handler. */
  readonly payload: RequestPayload | undefined;
  /** Names of the outputs to return; all when undefined. */
  readonly outputs: readonly string[] | undefined;
  /** True when the feeds were held against the model's metadata already. */
  readonly checked: boolean;
  /** Higher first. */
  readonly priority: number;
  /** Time of the clock at which the caller no longer wants the answer. */
  readonly deadline: number | undefined;
  readonly signal: AbortSignal | undefined;
  /** Buffers of the caller that are taken over once the request is accepted. */
  readonly transferred: ReadonlySet<ArrayBuffer> | undefined;
  /** For routers. */
  readonly shardKey: string | undefined;
  readonly labels: Readonly<Record<string, string>> | undefined;
  /** A copy of another request: the first to be refused when many wait. */
  readonly isShadow: boolean;
  /** Called once it is answered or refused: its feeds are read no more. */
  readonly releaseFeeds: (() => void) | undefined;
}

/** What a handler is given. */
export interface RequestPayload {
  readonly value: unknown;
  /** Aborted when nobody wants the answer any more. */
  readonly abandoned: AbortSignal;
  abandon(): void;
}

/** What a caller gets. Times in milliseconds. */
export interface RoutedResult {
  readonly outputs: Outputs;
  readonly replica: string;
  /** Requests that shared the onnxruntime call. */
  readonly batchSize: number;
  /** From acceptance to the replica. */
  readonly queueMs: number;
  readonly loadMs: number;
  readonly runMs: number;
  /** From acceptance to the answer. */
  readonly totalMs: number;
}

/** An accepted request on its way; settles its caller's promise once. */
export interface PendingRequest extends Omit<RoutedRequest, 'transferred' | 'releaseFeeds'> {
  /** Order of arrival; a retried request keeps its own. */
  readonly sequence: number;
  readonly acceptedAt: number;
  /** Makes of the result what its caller gets. */
  readonly read: (result: RoutedResult) => unknown;
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
  dispatchedAt: number;
  /** How often it was given to a replica. */
  attempts: number;
  /** True while it is in its model's queue, which sets it and the neighbours there. */
  isWaiting: boolean;
  previous: PendingRequest | undefined;
  next: PendingRequest | undefined;
  /** Set among the accepted requests, as long as it has no answer. */
  position: number | undefined;
  /** Takes back the deadline's timer and the signal's listener, and releases the feeds. */
  cleanUp: (() => void) | undefined;
}
