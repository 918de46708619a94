import type { TensorType } from '../tensors/tensor.js';

export type ModelFormat = 'onnx' | 'ort';

/** Where a session's weights are: in memory of its own, or in pages that all sessions of the model map. */
export type WeightPlacement = 'private' | 'shared';

/** What a replica needs to know of a model to load it. */
export interface ModelReference {
  /** Names one revision of one version of one model, and its session in the cache. */
  readonly key: string;
  /** The id that people know, for messages. */
  readonly id: string;
  /** File of the model; for one in memory, what messages call it. */
  readonly path: string;
  /** Bytes of its files, external data included. */
  readonly bytes: number;
  /** Default: ONNX. */
  readonly format?: ModelFormat | undefined;
  /** The model itself, where it is in memory. */
  readonly contents?: SharedArrayBuffer | undefined;
  /** Files beside it that hold some of its weights. */
  readonly externalData?: readonly string[] | undefined;
  /** What its files must hash to, by path: SHA-256 in hexadecimal digits. */
  readonly sha256?: Readonly<Record<string, string>> | undefined;
  /** For `InferenceSession.create`; goes before the engine's, key by key. */
  readonly session?: Readonly<Record<string, unknown>> | undefined;
  /** The engine's when undefined. */
  readonly weights?: WeightPlacement | undefined;
  /** Runs that a load ends with, so that the first request finds everything warm. */
  readonly warmUp?: readonly WarmUpInputs[] | undefined;
}

/** The inputs of one warm-up run, by name. */
export type WarmUpInputs = Readonly<Record<string, WarmUpInput>>;

export interface WarmUpInput {
  readonly dims: readonly number[];
  /** Default: the type that the model declares. */
  readonly type?: TensorType | undefined;
  /** One number, or for strings one string, for each element. Default: zeros, or empty strings. */
  readonly data?: readonly (number | string)[] | undefined;
}
