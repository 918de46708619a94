import type { Parameters } from '../inference-call.js';

/** The elements of a tensor in the form that their type has in `InferTensorContents`. */
export type Contents =
  | readonly number[]
  | readonly bigint[]
  | readonly boolean[]
  | readonly Uint8Array[]
  | Float32Array
  | Float64Array;

/** A tensor of a message, as it was sent. */
export interface WireTensor {
  readonly name: string;
  readonly datatype: string;
  readonly shape: readonly number[];
  readonly parameters: Parameters;
  /** Undefined when the elements are in the raw contents. */
  readonly contents: { readonly field: ContentsField; readonly values: Contents } | undefined;
}

/** Fields of `InferTensorContents`, by the numbers of the protocol. */
export const CONTENTS = { bool: 1, int: 2, int64: 3, uint: 4, uint64: 5, fp32: 6, fp64: 7, bytes: 8 } as const;

export type ContentsField = (typeof CONTENTS)[keyof typeof CONTENTS];

export interface WireRequest {
  readonly model_name: string;
  readonly model_version: string;
  readonly id: string;
  readonly parameters: Parameters;
  readonly inputs: readonly WireTensor[];
  readonly outputs: readonly { readonly name: string; readonly parameters: Parameters }[];
  readonly raw_input_contents: readonly Uint8Array[];
  /** Bytes of the message as it was received; undefined for one that is to be sent. */
  readonly byteLength?: number;
}

/** A request that was received. */
export type ReceivedMessage = WireRequest & { readonly byteLength: number };

export interface WireResponse {
  readonly model_name: string;
  readonly model_version: string;
  readonly id: string;
  readonly parameters: Parameters;
  readonly outputs: readonly WireTensor[];
  readonly raw_output_contents: readonly Uint8Array[];
}

export interface WireStreamResponse {
  readonly error_message: string;
  readonly infer_response: WireResponse | undefined;
}
