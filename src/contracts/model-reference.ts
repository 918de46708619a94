import type { FileIdentity } from '../common/files/file-stamp.js';
import type { TensorType } from '../tensors/tensor.js';

export type ModelFormat = 'onnx' | 'ort';

/** Where a session's weights are: in its own memory, or in pages that all sessions of the model map. */
export type SessionWeights = 'private' | 'shared';

/** Where the weights of a model's sessions are. `auto`: private at first, and shared when that saves enough memory. */
export type WeightPlacement = 'auto' | SessionWeights;

/** The names of a model. */
export interface ModelName {
  /** Identifies one revision of one version of one model, and its session in the cache. */
  readonly key: string;
  /** The id that users know, for messages. */
  readonly id: string;
}

/** What a replica needs in order to load a model. */
export interface ModelReference extends ModelName {
  /** File of the model; for a model in memory, its name in messages. */
  readonly path: string;
  /** Bytes of the model's files, external data included. */
  readonly bytes: number;
  /** Default: ONNX. */
  readonly format?: ModelFormat | undefined;
  /** The model itself, if it is in memory. */
  readonly contents?: SharedArrayBuffer | undefined;
  /** Files beside the model's that hold some of its weights. */
  readonly externalData?: readonly string[] | undefined;
  /** Its file and its external data as they were when it was registered. Only these may be loaded. */
  readonly files?: readonly FileIdentity[] | undefined;
  /** Expected SHA-256 of its files, by path, in hexadecimal digits. */
  readonly sha256?: Readonly<Record<string, string>> | undefined;
  /** Options for `InferenceSession.create`; they go before the engine's, key by key. */
  readonly session?: Readonly<Record<string, unknown>> | undefined;
  /** Default: the engine's. */
  readonly weights?: WeightPlacement | undefined;
  /** Runs at the end of a load, so that the first request is fast. */
  readonly warmUp?: readonly WarmUpInputs[] | undefined;
  /** Threads of a wide session; undefined for a narrow one. See {@link wideModel}. */
  readonly threads?: number | undefined;
}

/** Ends the key of a wide session; no key of a model ends like this. */
const WIDE = ' (wide)';

/** Returns the key of the model's wide session. A cache counts it as one more model. */
export function wideKeyOf(modelKey: string): string {
  return `${modelKey}${WIDE}`;
}

export function isWideKey(key: string): boolean {
  return key.endsWith(WIDE);
}

/** Returns the key of the model that a session with this key belongs to. */
export function narrowKeyOf(key: string): string {
  return isWideKey(key) ? key.slice(0, -WIDE.length) : key;
}

/** Returns the model as a wide session loads it: beside the narrow one, with several threads. */
export function wideModel<M extends ModelReference>(model: M, threads: number): M {
  return { ...model, key: wideKeyOf(model.key), threads };
}

/** The inputs of one warm-up run, by name. */
export type WarmUpInputs = Readonly<Record<string, WarmUpInput>>;

export interface WarmUpInput {
  readonly dims: readonly number[];
  /** Default: the type that the model declares for the input. */
  readonly type?: TensorType | undefined;
  /** One number for each element, or one string for a string tensor. Default: zeros, or empty strings. */
  readonly data?: readonly (number | string | boolean)[] | undefined;
}
