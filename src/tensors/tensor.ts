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

/** Elements in row-major order. */
export type TensorData = DataByType[TensorType];

/** One input as a caller passes it. An `ort.Tensor` on the CPU fits as it is. */
export interface TensorInput {
  readonly data: TensorData;
  /** The shape; its product is the length of `data`. `[]` is a scalar. */
  readonly dims: readonly number[];
  /** Default: inferred from the class of `data`. `bool` and `float16` must be named. */
  readonly type?: TensorType | (string & Record<never, never>) | undefined;
}

/** A tensor of one type. `dims` is its shape, and its product is the length of `data`. */
export interface TensorOf<T extends TensorType> {
  readonly type: T;
  readonly dims: readonly number[];
  readonly data: DataByType[T];
}

/** A tensor of any type; `type` tells the class of `data`. */
export type Tensor = { [T in TensorType]: TensorOf<T> }[TensorType];

/** Inputs by name. */
export type Feeds = Readonly<Record<string, TensorInput>>;

/** Inputs by name, checked, with their types resolved. */
export type TensorFeeds = Readonly<Record<string, Tensor>>;

/** Outputs by name. Every `data` belongs to the caller alone; `dims` are frozen. */
export type Outputs = Readonly<Record<string, Tensor>>;

/** One input or output as the model declares it. */
export interface ValueMetadata {
  readonly name: string;
  readonly type: TensorType;
  /** A number is a fixed dimension, a string (possibly empty) is a free one. `[]` also stands for "no shape". */
  readonly shape: readonly (number | string)[];
}

export interface ModelMetadata {
  readonly inputs: readonly ValueMetadata[];
  readonly outputs: readonly ValueMetadata[];
}

type TypedArrayConstructor = Exclude<(typeof ARRAY_TYPES)[TensorType], ArrayConstructor>;

/** Returns the class of array that holds elements of a type. */
export function arrayTypeOf(type: Exclude<TensorType, 'string'>): TypedArrayConstructor {
  return ARRAY_TYPES[type];
}

export function isTensorType(type: unknown): type is TensorType {
  return typeof type === 'string' && Object.hasOwn(ARRAY_TYPES, type);
}

/** Whether two tensors have the same type, the same rank and, from this axis on, the same dims. */
export function agreeFrom(axis: number, left: Omit<Tensor, 'data'>, right: Omit<Tensor, 'data'>): boolean {
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

/** Returns the number of elements in a tensor of these dims. */
export function elementsOf(dims: readonly number[]): number {
  let elements = 1;
  for (const size of dims) elements *= size;
  return elements;
}

/** Returns the rows along axis 0 if all inputs have the same number; otherwise 0. */
export function commonRows(feeds: TensorFeeds): number {
  let common: number | undefined;
  for (const name in feeds) {
    const rows = feeds[name]?.dims[0] ?? 0;
    if (common !== undefined && rows !== common) return 0;
    common = rows;
  }
  return common ?? 0;
}
