import type { ModelMetadata } from '../tensor.js';
import type { ErrorRecord } from './error-record.js';
import type { PackedTensor } from './packing.js';

/** Settings of a replica's thread, given to it once as `workerData`. */
export interface WorkerSettings {
  readonly replica: string;
  /** The memory of the shared queue counters and the line in it that belongs to this replica. */
  readonly counters: SharedArrayBuffer;
  readonly counterSlot: number;
  readonly maxModels: number;
  readonly maxModelBytes: number;
  readonly modelIdleTimeoutMs: number;
  /** Passed through to `InferenceSession.create`. */
  readonly session: Readonly<Record<string, unknown>>;
}

/** What a replica needs to know of a model to load it. */
export interface ModelReference {
  /** Names one version of one model, and its session in the cache. */
  readonly key: string;
  /** The id that people know, for messages. */
  readonly id: string;
  readonly path: string;
}

/** One dispatch: requests for one model. */
export interface RunMessage {
  readonly kind: 'run';
  readonly model: ModelReference;
  readonly groups: readonly RequestGroup[];
  /** Hold batches against single runs; no replica has found them to agree yet. */
  readonly verify: boolean;
}

/** Requests of one dispatch with the same outputs wanted and inputs of the same type and dims, but for axis 0 of a batch. */
export interface RequestGroup {
  readonly requests: number;
  /**
   * Rows along axis 0 that each request has, or all alike: they run as one call, and the inputs have the dims of them all.
   * Undefined: each request is a call of its own, and the inputs have the dims of one.
   */
  readonly rows: number | readonly number[] | undefined;
  /** The requests' elements end to end. */
  readonly inputs: readonly PackedTensor[];
  /** Names of the outputs to return; all when undefined. */
  readonly outputs: readonly string[] | undefined;
  /** True when the calling thread has held the feeds against the model's metadata already. */
  readonly checked: boolean;
}

/** The first message of a thread: proves that it lives and that onnxruntime-node loads in it. */
export interface HelloMessage {
  readonly kind: 'hello';
}

/** Releases sessions that nobody has used for the idle time-out. */
export interface ExpireMessage {
  readonly kind: 'expire';
}

/** Releases all sessions; the last message of a thread. */
export interface ReleaseMessage {
  readonly kind: 'release';
}

export type ReplicaMessage = RunMessage | HelloMessage | ExpireMessage | ReleaseMessage;

/** What is posted to a replica's thread; `id` is in the answer too. */
export interface ToThread {
  readonly id: number;
  readonly message: ReplicaMessage;
}

/** What a replica's thread posts, in the order in which it happened. */
export type FromThread = { readonly id: number; readonly answer: Answer<unknown> } | { readonly event: ReplicaEvent };

export interface HelloAnswer {
  readonly onnxruntimeVersion: string;
  readonly providers: readonly string[];
}

export interface RunAnswer {
  /** 0 when the session was there already. */
  readonly loadMs: number;
  /** What became of the requests of each group, in their order. */
  readonly calls: readonly (readonly CallAnswer[])[];
  /** How the first batches compared with single runs, if they were held against them. */
  readonly verification: Verification | undefined;
  /** The message's, handed back to be filled again. */
  readonly buffer: ArrayBuffer | undefined;
}

/** The answer to a batch that ran as one call, or to requests that ran one by one and came to the same dims or error. */
export interface CallAnswer {
  readonly requests: number;
  /** Whether they ran as one call: then the outputs have the dims of them all, otherwise those of one. */
  readonly joined: boolean;
  /** Milliseconds in onnxruntime, call by call. */
  readonly runMs: readonly number[];
  /** The requests' elements end to end; absent when they failed. */
  readonly outputs: readonly PackedTensor[] | undefined;
  readonly error: ErrorRecord | undefined;
}

/** Undefined: the model gave the same in a batch as alone; otherwise why it must not be batched. */
export interface Verification {
  readonly mismatch: string | undefined;
}

export interface ExpireAnswer {
  /** Milliseconds until the next session may expire; absent when none is left. */
  readonly nextInMs: number | undefined;
}

/** What comes back for a message: a thrown error would lose its class, code and fields on the way. */
export type Answer<T> = { readonly value: T } | { readonly error: ErrorRecord };

/** Why a session left the cache. */
export type UnloadReason = 'evicted' | 'unloaded' | 'expired' | 'replaced' | 'shutdown';

/** Posted at once, also while the thread is about to block in a load. */
export type ReplicaEvent =
  | { readonly kind: 'model-loading'; readonly key: string }
  | {
      readonly kind: 'model-loaded';
      readonly key: string;
      readonly loadMs: number;
      readonly bytes: number;
      readonly metadata: ModelMetadata;
    }
  | { readonly kind: 'model-load-failed'; readonly key: string; readonly loadMs: number; readonly error: ErrorRecord }
  | { readonly kind: 'model-unloaded'; readonly key: string; readonly reason: UnloadReason; readonly unloadMs: number }
  | {
      readonly kind: 'log';
      readonly level: 'debug' | 'info' | 'warn' | 'error';
      readonly message: string;
      readonly fields: Readonly<Record<string, string | number | boolean>>;
    };
