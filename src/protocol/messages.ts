import type { MessagePort } from 'node:worker_threads';
import type { ErrorRecord } from '../common/values/error-record.js';
import type { BatchingPolicy } from '../contracts/batching.js';
import type { EvictionName } from '../contracts/eviction.js';
import type { HandlerTimeouts, SentTerms } from '../contracts/handler.js';
import type { ModelReference, WeightPlacement } from '../contracts/model-reference.js';
import type { TensorData } from '../tensors/tensor.js';
import type { ReplicaEvent } from './events.js';
import type { PackedTensor, PartedTensor } from './packing.js';

/** The input of a replica thread's one task. The task is the thread's life: it ends when the replica is told to end. */
export interface ReplicaTask {
  readonly settings: WorkerSettings;
  /** Carries all messages. */
  readonly port: MessagePort;
}

/** Settings of a replica's thread. */
export interface WorkerSettings extends ReplicaRuntimeSettings {
  /** The memory of the shared queue counters. This replica's line in it is `counterSlot`. */
  readonly counters: SharedArrayBuffer;
  readonly counterSlot: number;
  /** The memory of file hashes that all threads share. */
  readonly fileHashes: SharedArrayBuffer;
}

/** Settings of a replica, wherever it runs. */
export interface ReplicaRuntimeSettings {
  readonly replica: string;
  readonly eviction: EvictionName;
  readonly maxModels: number;
  readonly maxModelBytes: number;
  readonly modelIdleTimeoutMs: number;
  /** Passed through to `InferenceSession.create`. */
  readonly session: Readonly<Record<string, unknown>>;
  /** Id of the device for execution providers other than `cpu`; undefined leaves the choice to them. */
  readonly device: number | undefined;
  /** For models that set none. */
  readonly weights: WeightPlacement;
  readonly weightStore: WeightStoreSettings;
  /** Address of the module that handles requests; undefined when requests are feeds of models. */
  readonly handler: string | undefined;
  /** The argument of the handler's first `reconfigure`. */
  readonly userConfig: unknown;
  readonly handlerTimeouts: HandlerTimeouts;
  /** Whether it takes short runs only, and goes before other replicas when there are not enough cores. */
  readonly isExpress: boolean;
}

/** Where shared weights are stored. */
export interface WeightStoreSettings {
  readonly directory: string;
  /** Most bytes of its entries; beyond it the least recently used ones are removed. */
  readonly maxBytes: number;
}

/** A message about one model, by its key. */
interface AboutModel {
  readonly model: string;
  /** What the thread needs to know of the model; only in the first message, and in the first one after an unload. */
  readonly definition: ModelReference | undefined;
}

/** One dispatch: requests for one model. */
export interface RunMessage extends AboutModel {
  readonly kind: 'run';
  readonly groups: readonly RequestGroup[];
  /** Keys of models to evict before others if the model needs room. */
  readonly spare: readonly string[] | undefined;
  /** Compare batches with single runs, because no replica has found them equal yet. */
  readonly verify: boolean;
}

/** Requests of one dispatch for the same outputs, with inputs of the same type and dims, except axis 0 of a batch. */
export interface RequestGroup {
  readonly requests: number;
  /**
   * Rows of each request along axis 0, or one number for all: the requests run as one call, and the inputs have the
   * dims of the whole batch. Undefined: each request is a call of its own, and the inputs have the dims of one request.
   */
  readonly rows: number | readonly number[] | undefined;
  readonly inputs: readonly (PackedTensor | PartedTensor)[];
  /** Names of the outputs to return; all when undefined. */
  readonly outputs: readonly string[] | undefined;
  /** True when the calling thread has checked the feeds against the model's metadata. */
  readonly checked: boolean;
  /** The requests for a handler, instead of inputs. Its `handleBatch` takes all of them in one call. */
  readonly values?: readonly HandlerRequest[] | undefined;
}

/** A request for a handler. */
export interface HandlerRequest {
  /** Names the request in other messages and events. */
  readonly ticket: number;
  readonly value: unknown;
  /** Items that the thread may send before the first {@link PullMessage}; undefined when the answer goes as a whole. */
  readonly ahead: number | undefined;
  /** Whether nobody reads the answer. */
  readonly isShadow: boolean;
  /** What the handler is told of it; undefined when all is as by default. */
  readonly terms?: SentTerms | undefined;
}

/** The first message of a thread. Its answer proves that the thread lives and that onnxruntime-node loads in it. */
export interface HelloMessage {
  readonly kind: 'hello';
}

/** Releases sessions that have been unused for the idle time-out. */
export interface ExpireMessage {
  readonly kind: 'expire';
}

/** Releases all sessions; the last message of a thread. */
export interface ReleaseMessage {
  readonly kind: 'release';
}

/** Loads a model if it is not loaded. */
export interface LoadMessage extends AboutModel {
  readonly kind: 'load';
  /** Never evict it. */
  readonly pin: boolean;
  /** As in a {@link RunMessage}. */
  readonly spare: readonly string[] | undefined;
  /** Key of a session that counts as unloaded: it is unloaded once this model is loaded. */
  readonly replaces: string | undefined;
  /** Whether it is unloaded again at once: nothing is evicted for its place where that can be helped. */
  readonly isTrial: boolean;
}

/** Releases a session, after a load under way and after its last user, and forgets the model. */
export interface UnloadMessage {
  readonly kind: 'unload';
  readonly model: string;
  readonly reason: 'unloaded' | 'replaced';
}

/** Lets the model's session give way to one with shared weights, if they were prepared since and nobody uses it. */
export interface ShareMessage {
  readonly kind: 'share';
  readonly model: string;
}

/** Gives the handler another configuration. */
export interface ReconfigureMessage {
  readonly kind: 'reconfigure';
  readonly userConfig: unknown;
}

/** Asks whether the thread answers, and whether its handler, if any, is healthy. */
export interface HealthMessage {
  readonly kind: 'health';
}

/** Asks for a sign of life, and nothing else. */
export interface PingMessage {
  readonly kind: 'ping';
}

/** Asks for the handler's routing stats. */
export interface RoutingStatsMessage {
  readonly kind: 'routing-stats';
}

/** The answer to the event `model-wanted` of this number. */
export interface DefineMessage {
  readonly kind: 'define';
  readonly wanted: number;
  readonly model: Answer<DefinedModel>;
}

/** A model that a handler may run. */
export interface DefinedModel {
  readonly model: ModelReference;
  /** How what its requests run at once is joined. */
  readonly batching: BatchingPolicy;
}

/** Cancels a request for a handler: no caller waits for the answer any more. */
export interface CancelMessage {
  readonly kind: 'cancel';
  readonly ticket: number;
}

/** The caller has taken so many items of the request's stream, and the thread may send as many more. */
export interface PullMessage {
  readonly kind: 'pull';
  readonly ticket: number;
  readonly items: number;
}

/** The answer to the event `engine-run` of this number. */
export interface EngineAnswerMessage {
  readonly kind: 'engine-answer';
  readonly run: number;
  readonly answer: Answer<unknown>;
}

export type ReplicaMessage =
  | RunMessage
  | LoadMessage
  | UnloadMessage
  | ShareMessage
  | HelloMessage
  | ExpireMessage
  | ReleaseMessage
  | ReconfigureMessage
  | HealthMessage
  | PingMessage
  | RoutingStatsMessage
  | DefineMessage
  | CancelMessage
  | PullMessage
  | EngineAnswerMessage;

/** A message to a replica's thread; the answer repeats its `id`. */
export interface ToThread {
  readonly id: number;
  readonly message: ReplicaMessage;
}

/** An answer or event of a replica's thread. They are posted in the order in which things happened. */
export type FromThread = { readonly id: number; readonly answer: Answer<unknown> } | { readonly event: ReplicaEvent };

export interface HelloAnswer {
  readonly onnxruntimeVersion: string;
  readonly providers: readonly string[];
  /** What the handler can do, if there is one. */
  readonly handler?: HandlerAbilities | undefined;
}

export interface HandlerAbilities {
  /** What it is given in one call: a request, or as many as there are. */
  readonly takes: 'requests' | 'batches';
  /** It accepts another configuration while it runs. */
  readonly reconfigures: boolean;
  /** It has models of its own. */
  readonly loadsModels: boolean;
  /** It reports routing stats. */
  readonly recordsStats: boolean;
}

export interface RunAnswer {
  /** 0 when the session was loaded already. */
  readonly loadMs: number;
  /** The answers of each group, in the order of its requests. */
  readonly calls: readonly (readonly CallAnswer[])[];
  /** How the batches compared with single runs; undefined when they were not compared. */
  readonly verification: Verification | undefined;
  /** The buffer of the message, handed back to be filled again. */
  readonly buffer: ArrayBuffer | undefined;
}

/** The answer to a batch that ran as one call, or to requests that ran one by one with the same dims or error. */
export interface CallAnswer {
  readonly requests: number;
  /** Whether they ran as one call: then the outputs have the dims of the batch, otherwise those of one request. */
  readonly joined: boolean;
  /** Milliseconds in onnxruntime, call by call. */
  readonly runMs: readonly number[];
  /** The requests' elements end to end; undefined when they failed. */
  readonly outputs: readonly (PackedTensor | PartedTensor)[] | undefined;
  readonly error: ErrorRecord | undefined;
  /** What became of each request of a handler, instead of outputs. */
  readonly results?: readonly HandlerResult[] | undefined;
}

/** The value that a handler returned for a request, or why there is none. */
export type HandlerResult = { readonly value: unknown } | { readonly error: ErrorRecord };

/** `mismatch` says why the model must not be batched; undefined when batches and single runs agree. */
export interface Verification {
  readonly mismatch: string | undefined;
}

export interface ExpireAnswer {
  /** Milliseconds until the next session may expire; undefined when none is left. */
  readonly nextInMs: number | undefined;
}

export interface UnloadAnswer {
  /** Bytes of the model's files; 0 when there was no session. */
  readonly bytes: number;
}

/** The answer to a message. A thrown error would lose its class, code and fields on the way. */
export type Answer<T> =
  | { readonly value: T }
  | {
      readonly error: ErrorRecord;
      /** The arrays that were transferred with the message, in their order: nothing has become of the requests. */
      readonly returned?: readonly TensorData[] | undefined;
    };
