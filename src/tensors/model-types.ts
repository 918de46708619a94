import type { Feeds, Float16ArrayLike, Outputs, TensorOf, TensorType } from './tensor.js';

/** The inputs and outputs of one model, by name. */
export interface ModelType {
  readonly inputs: Feeds;
  readonly outputs: Outputs;
}

/**
 * Inputs and outputs of models, by model id: the form of the interface that `infermux types` writes, or that you write
 * yourself.
 */
export type ModelTypes<Models = Readonly<Record<string, unknown>>> = { readonly [Id in keyof Models]: ModelType };

/**
 * The type of unknown models: any id, with any inputs and outputs. It is `any`, so that a typed engine or client can be
 * passed where an untyped one is expected.
 */
// biome-ignore lint/suspicious/noExplicitAny: see above.
export type AnyModels = any;

/** Arrays whose class says the type, and arrays of plain values, which take the model's. */
interface InferredData {
  float32: Float32Array | readonly number[];
  float64: Float64Array | readonly number[];
  float16: Float16ArrayLike | readonly number[];
  int8: Int8Array | readonly number[];
  uint8: Uint8Array | Uint8ClampedArray | readonly number[];
  int16: Int16Array | readonly number[];
  uint16: Uint16Array | readonly number[];
  int32: Int32Array | readonly number[];
  uint32: Uint32Array | readonly number[];
  int64: BigInt64Array | readonly number[] | readonly bigint[];
  uint64: BigUint64Array | readonly number[] | readonly bigint[];
  bool: readonly boolean[];
  string: readonly string[];
}

/** An input of this type. A tensor of onnxruntime of the same type is accepted as well. */
export type FeedOf<T extends TensorType> =
  // The type is only needed where the array could hold another one, as for `bool` and `float16`.
  | { readonly type: T; readonly dims: readonly number[]; readonly data: TensorOf<T>['data'] }
  | { readonly type?: T | undefined; readonly dims: readonly number[]; readonly data: InferredData[T] };

type IdOf<Models> = Extract<keyof Models, string>;

/** What a request may name: any text if nothing is known of the models. */
export type TargetOf<Models> = string extends keyof Models
  ? string
  : IdOf<Models> | `${IdOf<Models>}@${number}` | `${string}/${IdOf<Models>}` | `${string}/${IdOf<Models>}@${number}`;

/** The model that a target means: a version may have an entry of its own. */
type ModelOf<Models, Target extends string> = string extends keyof Models
  ? ModelType
  : Target extends keyof Models
    ? Models[Target]
    : Target extends `${string}/${infer Id}`
      ? ModelOf<Models, Id>
      : Target extends `${infer Id}@${number}`
        ? ModelOf<Models, Id>
        : never;

/** What a model takes. */
export type FeedsOf<Models, Target extends string> =
  ModelOf<Models, Target> extends { readonly inputs: infer Inputs } ? Inputs : never;

/** Names of what a model gives. */
export type OutputNameOf<Models, Target extends string> =
  ModelOf<Models, Target> extends { readonly outputs: infer All } ? Extract<keyof All, string> : never;

/** What a model gives: the outputs of these names. */
export type OutputsOf<Models, Target extends string, Name extends string> = string extends keyof Models
  ? Outputs
  : ModelOf<Models, Target> extends { readonly outputs: infer All }
    ? { readonly [Output in Extract<keyof All, Name>]: All[Output] }
    : never;
