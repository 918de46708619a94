import type { MessagePort } from 'node:worker_threads';
import type { EvictionName, UnloadReason } from '../contracts/eviction.js';
import type { ModelReference, WeightPlacement } from '../contracts/model-reference.js';
import type { ModelMetadata } from '../tensors/tensor.js';
import type { ErrorRecord } from './error-record.js';
import type { PackedTensor } from './packing.js';

/** What the one task of a replica's thread is given: the task is the thread's life, and ends when the replica is told to end. */
export interface ReplicaTask {
  readonly settings: WorkerSettings;
  /** All messages go over it. */
  readonly port: MessagePort;
}

/** Settings of a replica's thread. */
export interface WorkerSettings {
  readonly replica: string;
  /** The memory of the shared queue counters and the line in it that belongs to this replica. */
  readonly counters: SharedArrayBuffer;
  readonly counterSlot: number;
  readonly eviction: EvictionName;
  readonly maxModels: number;
  readonly maxModelBytes: number;
  readonly modelIdleTimeoutMs: number;
  /** Passed through to `InferenceSession.create`. */
  readonly session: Readonly<Record<string, unknown>>;
  /** Id of the device for execution providers other than `cpu`; undefined for their own choice. */
  readonly device: number | undefined;
  /** Of models that name none. */
  readonly weights: WeightPlacement;
  readonly weightStore: WeightStoreSettings;
  /** The hashes of files that threads have computed, for all of them. */
  readonly fileHashes: SharedArrayBuffer;
  /** Address of the module that handles requests; undefined where they are feeds of models. */
  readonly handler: string | undefined;
  /** For its `reconfigure`. */
  readonly userConfig: unknown;
}

/** Where shared weights are. */
export interface WeightStoreSettings {
  readonly directory: string;
  /** Most bytes of its entries; the least recently used leave. */
  readonly maxBytes: number;
}

/** A message about one model, by its key. */
interface AboutModel {
  readonly model: string;
  /** What the thread needs to know of it; only with the first message, and the first after an unload. */
  readonly definition: ModelReference | undefined;
}

/** One dispatch: requests for one model. */
export interface RunMessage extends AboutModel {
  readonly kind: 'run';
  readonly groups: readonly RequestGroup[];
  /** Keys of models that may leave before others, should the model need room. */
  readonly spare: readonly string[] | undefined;
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
  /** What a handler is given, request by request, instead of inputs. */
  readonly values?: readonly HandlerRequest[] | undefined;
}

/** A request for a handler. */
export interface HandlerRequest {
  /** By which it can be cancelled. */
  readonly ticket: number;
  readonly value: unknown;
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

/** Loads a model, if it is not there. */
export interface LoadMessage extends AboutModel {
  readonly kind: 'load';
  /** Never evict it. */
  readonly pin: boolean;
  /** As with a {@link RunMessage}. */
  readonly spare: readonly string[] | undefined;
  /** Key of a session that counts as gone: it leaves when this one is there. */
  readonly replaces: string | undefined;
}

/** Releases a session, after a load under way and its last user, and forgets the model. */
export interface UnloadMessage {
  readonly kind: 'unload';
  readonly model: string;
  readonly reason: 'unloaded' | 'replaced';
}

/** Tells the handler another configuration. */
export interface ReconfigureMessage {
  readonly kind: 'reconfigure';
  readonly userConfig: unknown;
}

/** Is it well? */
export interface HealthMessage {
  readonly kind: 'health';
}

/** What does the handler tell of itself? */
export interface RoutingStatsMessage {
  readonly kind: 'routing-stats';
}

/** The answer to the event `model-wanted` of this number. */
export interface DefineMessage {
  readonly kind: 'define';
  readonly wanted: number;
  readonly model: Answer<ModelReference>;
}

/** Nobody wants the answer to this request of a handler any more. */
export interface CancelMessage {
  readonly kind: 'cancel';
  readonly ticket: number;
}

export type ReplicaMessage =
  | RunMessage
  | LoadMessage
  | UnloadMessage
  | HelloMessage
  | ExpireMessage
  | ReleaseMessage
  | ReconfigureMessage
  | HealthMessage
  | RoutingStatsMessage
  | DefineMessage
  | CancelMessage;

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
  /** What the handler can, where there is one. */
  readonly handler?: HandlerAbilities | undefined;
}

export interface HandlerAbilities {
  /** It takes another configuration while it runs. */
  readonly reconfigures: boolean;
  /** It has models of its own. */
  readonly loadsModels: boolean;
  /** It tells how the replica fares. */
  readonly recordsStats: boolean;
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
  /** What a handler returned, in place of outputs. */
  readonly result?: { readonly value: unknown } | undefined;
}

/** Undefined: the model gave the same in a batch as alone; otherwise why it must not be batched. */
export interface Verification {
  readonly mismatch: string | undefined;
}

export interface ExpireAnswer {
  /** Milliseconds until the next session may expire; absent when none is left. */
  readonly nextInMs: number | undefined;
}

export interface UnloadAnswer {
  /** Of the model's files; 0 when there was no session. */
  readonly bytes: number;
}

/** What comes back for a message: a thrown error would lose its class, code and fields on the way. */
export type Answer<T> = { readonly value: T } | { readonly error: ErrorRecord };

/** Posted at once, also while the thread is about to block in a load. */
export type ReplicaEvent =
  | { readonly kind: 'model-loading'; readonly key: string }
  | {
      readonly kind: 'model-loaded';
      readonly key: string;
      readonly loadMs: number;
      readonly bytes: number;
      /** By which the memory of the process grew meanwhile. */
      readonly memoryBytes: number;
      readonly metadata: ModelMetadata;
    }
  | {
      readonly kind: 'model-load-failed';
      readonly key: string;
      readonly loadMs: number;
      readonly error: ErrorRecord;
      /** How long the failure is remembered. */
      readonly nextTryInMs: number;
    }
  | {
      readonly kind: 'model-unloaded';
      readonly key: string;
      readonly reason: UnloadReason;
      readonly unloadMs: number;
      /** Milliseconds since it was last used. */
      readonly idleMs: number;
    }
  /** The handler asks for a model by what people call it; to be answered by a `define` of this number. */
  | { readonly kind: 'model-wanted'; readonly wanted: number; readonly target: string }
  | {
      readonly kind: 'log';
      readonly level: 'debug' | 'info' | 'warn' | 'error';
      readonly message: string;
      readonly fields: Readonly<Record<string, string | number | boolean>>;
    };
