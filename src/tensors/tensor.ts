/** Element types that onnxruntime-node takes and returns, and the class of array for each. */
export const ARRAY_TYPES = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
  string: Array,
} as const;

export type TensorType = keyof typeof ARRAY_TYPES;

/**
 * Classes of the arrays that carry elements whose type only the model tells. A `large bigint` is one that an int64
 * cannot hold.
 */
const UNTYPED_ARRAYS = {
  number: Float64Array,
  boolean: Uint8Array,
  bigint: BigInt64Array,
  'large bigint': BigUint64Array,
} as const;

export type UntypedType = keyof typeof UNTYPED_ARRAYS;

/** The type of a tensor on its way to a model. */
export type CarriedType = TensorType | UntypedType;

interface DataByType {
  float32: Float32Array;
  float64: Float64Array;
  /** The bits of the numbers. */
  float16: Uint16Array;
  int8: Int8Array;
  uint8: Uint8Array;
  int16: Int16Array;
  uint16: Uint16Array;
  int32: Int32Array;
  uint32: Uint32Array;
  int64: BigInt64Array;
  uint64: BigUint64Array;
  /** 0 or 1. */
  bool: Uint8Array;
  string: readonly string[];
}

/** Most dimensions of a tensor: far more than an operator of onnxruntime takes. */
export const MOST_DIMS = 64;
export const LARGEST_DIM = 2 ** 31 - 1;

export function isDim(size: unknown): size is number {
  return Number.isInteger(size) && (size as number) >= 0 && (size as number) <= LARGEST_DIM;
}

/** Elements in row-major order. */
export type TensorData = DataByType[TensorType];

/** A typed array that holds float16 numbers, in versions of Node that have one. */
export interface Float16ArrayLike extends ArrayBufferView {
  readonly [Symbol.toStringTag]: 'Float16Array';
  readonly length: number;
}

/** One input. An `ort.Tensor` on the CPU is accepted as well. */
export interface TensorInput {
  /**
   * The elements in row-major order. An array of numbers, bigints or booleans is converted to the model's type, or to
   * `type`, if all elements are in its range. Nested arrays are refused.
   */
  readonly data:
    | TensorData
    | Uint8ClampedArray
    | Float16ArrayLike
    | readonly number[]
    | readonly bigint[]
    | readonly boolean[];
  /** The shape, at most 64 dimensions; its product is the length of `data`. `[]` is a scalar. */
  readonly dims: readonly number[];
  /**
   * Default: inferred from the class of `data`. Required for a `Uint8Array` of `bool` and a `Uint16Array` of `float16`.
   */
  readonly type?: TensorType | (string & Record<never, never>) | undefined;
}

/** A tensor of one type. `dims` is its shape, and its product is the length of `data`. */
export interface TensorOf<T extends TensorType> {
  readonly type: T;
  readonly dims: readonly number[];
  readonly data: DataByType[T];
}

/** A tensor of any type; the class of `data` depends on `type`. */
export type Tensor = { [T in TensorType]: TensorOf<T> }[TensorType];

/** Inputs by name. */
export type Feeds = Readonly<Record<string, TensorInput>>;

/** Elements that take the type of the model's input. No tensor is joined with one of these. */
export interface UntypedTensor {
  readonly type: UntypedType;
  readonly dims: readonly number[];
  readonly data: Float64Array | Uint8Array | BigInt64Array | BigUint64Array;
}

/** Inputs by name, read, but not yet compared with the model's. */
export type ReadFeeds = Readonly<Record<string, Tensor | UntypedTensor>>;

/** Inputs by name, checked, with their types resolved. */
export type TensorFeeds = Readonly<Record<string, Tensor>>;

/** Outputs by name. Every `data` belongs to the caller alone; `dims` are frozen. */
export type Outputs = Readonly<Record<string, Tensor>>;

/** One input or output as the model declares it. */
export interface ValueMetadata {
  readonly name: string;
  readonly type: TensorType;
  /** A number is a fixed dimension, a string (possibly empty) is a free one. `[]` is a scalar or an unknown shape. */
  readonly shape: readonly (number | string)[];
}

/** An output that cannot be returned, for example a sequence of maps. */
export interface OmittedOutput {
  readonly name: string;
  /** Why it cannot be returned. */
  readonly reason: string;
}

/** The inputs and outputs of a model, as it declares them. */
export interface ModelMetadata {
  readonly inputs: readonly ValueMetadata[];
  readonly outputs: readonly ValueMetadata[];
  /** Outputs that onnxruntime-node does not support; they are omitted. */
  readonly omittedOutputs: readonly OmittedOutput[];
}

type TypedArrayConstructor = Exclude<(typeof ARRAY_TYPES)[TensorType], ArrayConstructor>;

const CARRIERS: Readonly<Record<Exclude<CarriedType, 'string'>, TypedArrayConstructor>> = {
  ...ARRAY_TYPES,
  ...UNTYPED_ARRAYS,
};

/** Returns the class of array that holds elements of a type. */
export function arrayTypeOf(type: Exclude<CarriedType, 'string'>): TypedArrayConstructor {
  return CARRIERS[type];
}

/** Returns an array of so many elements on memory that may be shared. */
export function arrayOn(
  type: Exclude<CarriedType, 'string'>,
  memory: ArrayBufferLike,
  offset: number,
  length: number,
): Exclude<TensorData, readonly string[]> {
  return new (arrayTypeOf(type))(memory as ArrayBuffer, offset, length);
}

export function isTensorType(type: unknown): type is TensorType {
  return typeof type === 'string' && Object.hasOwn(ARRAY_TYPES, type);
}

/** Whether two tensors have the same type, the same rank and, from this axis on, the same dims. */
export function agreeFrom(
  axis: number,
  left: Omit<Tensor | UntypedTensor, 'data'>,
  right: Omit<Tensor | UntypedTensor, 'data'>,
): boolean {
  if (left.type !== right.type || left.dims.length !== right.dims.length) return false;
  for (let index = axis; index < left.dims.length; index += 1) {
    if (left.dims[index] !== right.dims[index]) return false;
  }
  return true;
}

/** Adds a property of any name; an assignment to "__proto__" adds none. */
export function setProperty<T>(record: Record<string, T>, name: string, value: T): void {
  if (name === '__proto__') {
    Object.defineProperty(record, name, { value, enumerable: true, configurable: true, writable: true });
  } else {
    record[name] = value;
  }
}

/**
 * Returns a tensor. Tensors of requests and answers live as long as those, and are plain objects, which may not be made by
 * a literal with properties: see PendingRequest.
 */
export function newTensor(type: CarriedType, dims: readonly number[], data: TensorData): Tensor {
  const tensor: Record<string, unknown> = {};
  tensor['type'] = type;
  tensor['dims'] = dims;
  tensor['data'] = data;
  return tensor as unknown as Tensor;
}

/** Returns the number of elements in a tensor of these dims. */
export function elementsOf(dims: readonly number[]): number {
  let elements = 1;
  for (const size of dims) elements *= size;
  // Infinity times 0: the product of so many large dims is no number.
  return Number.isNaN(elements) ? 0 : elements;
}

/** Returns the rows along axis 0 if all inputs have the same number; otherwise 0. */
export function commonRows(feeds: ReadFeeds): number {
  let common: number | undefined;
  for (const name in feeds) {
    const rows = feeds[name]?.dims[0] ?? 0;
    if (common !== undefined && rows !== common) return 0;
    common = rows;
  }
  return common ?? 0;
}
