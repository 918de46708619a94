import { InfermuxError, show } from './errors.js';

/** Element types that onnxruntime-node carries in and out, and the array that holds each. */
const ARRAY_TYPES = {
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

const LARGEST_DIM = 2 ** 31 - 1;

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

/** What a caller passes for one input; an `ort.Tensor` on the CPU fits as it is. */
export interface TensorInput {
  readonly data: TensorData;
  /** The shape; its product is the length of `data`. `[]` is a scalar. */
  readonly dims: readonly number[];
  /** Inferred from the class of `data`; must be named for `bool` and `float16`. */
  readonly type?: TensorType | (string & Record<never, never>) | undefined;
}

/** A tensor of one type; `dims` is its shape, and the product of it the length of `data`. */
export interface TensorOf<T extends TensorType> {
  readonly type: T;
  readonly dims: readonly number[];
  readonly data: DataByType[T];
}

/** Its `type` tells what its `data` is. */
export type Tensor = { [T in TensorType]: TensorOf<T> }[TensorType];

/** Inputs by name. */
export type Feeds = Readonly<Record<string, TensorInput>>;

/** Inputs by name, checked and with their type resolved. */
export type TensorFeeds = Readonly<Record<string, Tensor>>;

/** Outputs by name; every `data` belongs to the caller alone. */
export type Outputs = Readonly<Record<string, Tensor>>;

/** One input or output as its model declares it. */
export interface ValueMetadata {
  readonly name: string;
  readonly type: TensorType;
  /** A number is a fixed dimension, a string (possibly empty) a free one. `[]` also stands for "no shape given". */
  readonly shape: readonly (number | string)[];
}

export interface ModelMetadata {
  readonly inputs: readonly ValueMetadata[];
  readonly outputs: readonly ValueMetadata[];
}

export function isTensorType(type: unknown): type is TensorType {
  return typeof type === 'string' && Object.hasOwn(ARRAY_TYPES, type);
}

/**
 * Checks what can be checked of feeds without knowing the model. The arrays are still the caller's: see
 * {@link copyFeeds} and {@link transferFeeds}.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming the input, what was expected and what came.
 */
export function readFeeds(feeds: Feeds): TensorFeeds {
  if (feeds === null || typeof feeds !== 'object' || Array.isArray(feeds)) {
    throw invalid(`feeds must be an object of tensors by input name, got ${show(feeds)}`);
  }
  return mapFeeds(feeds, (input, name) => readTensor(name, input));
}

/** The feeds on memory of their own, but for those on the `kept` buffers. */
export function copyFeeds(feeds: TensorFeeds, kept: ReadonlySet<ArrayBufferLike>): TensorFeeds {
  return mapFeeds(feeds, (tensor) => (isOn(kept, tensor.data) ? tensor : copyTensor(tensor)));
}

/** The feeds with these buffers taken over: the caller's arrays on them are empty from now on. */
export function transferFeeds(feeds: TensorFeeds, buffers: ReadonlySet<ArrayBuffer>): TensorFeeds {
  if (buffers.size === 0) return feeds;
  try {
    // All at once, because two inputs may share a buffer.
    return structuredClone(feeds, { transfer: [...buffers] });
  } catch {
    // WebAssembly memory, say, belongs to its owner for good.
    return copyFeeds(feeds, new Set());
  }
}

/** Keeps an input called "__proto__" an input. */
function mapFeeds<T, U>(feeds: Readonly<Record<string, T>>, map: (value: T, name: string) => U): Record<string, U> {
  const mapped: Record<string, U> = {};
  for (const name of Object.keys(feeds)) {
    const value = map(feeds[name] as T, name);
    Object.defineProperty(mapped, name, { value, enumerable: true, configurable: true, writable: true });
  }
  return mapped;
}

function readTensor(name: string, input: TensorInput | undefined): Tensor {
  const where = `input ${show(name)}`;
  if (input === null || typeof input !== 'object') {
    throw invalid(`${where} must be a tensor { data, dims, type? }, got ${show(input)}`);
  }
  const { data, impliedType } = readData(where, input);
  const type = readType(where, input.type ?? impliedType, data);
  // Copied before it is checked: a hole in an array is skipped by `every`, and becomes undefined here.
  const dims = Array.isArray(input.dims) ? [...input.dims] : undefined;
  if (dims === undefined || !dims.every((size) => Number.isInteger(size) && size >= 0 && size <= LARGEST_DIM)) {
    throw invalid(`${where}: dims must be an array of integers from 0 to ${LARGEST_DIM}, got ${show(input.dims)}`);
  }
  const elements = dims.reduce((product, size) => product * size, 1);
  if (data.length !== elements) {
    throw invalid(`${where}: dims ${show(dims)} need ${elements} elements, data has ${data.length}`);
  }
  return { type, dims, data } as Tensor;
}

function readData(where: string, input: TensorInput): { data: TensorData; impliedType?: TensorType } {
  let data: unknown;
  try {
    data = input.data;
  } catch (cause) {
    // An ort.Tensor on a GPU throws from its getter.
    throw new InfermuxError('INVALID_ARGUMENT', `${where}: data must be on the CPU`, { cause });
  }
  if (isFloat16Array(data)) {
    return { data: new Uint16Array(data.buffer, data.byteOffset, data.length), impliedType: 'float16' };
  }
  if (ArrayBuffer.isView(data) && !(data instanceof DataView)) return { data: data as TensorData };
  if (Array.isArray(data)) {
    const other = data.findIndex((element) => typeof element !== 'string');
    if (other === -1) return { data: readStrings(where, data) };
    throw invalid(
      `${where}: data must be a typed array or an array of strings, got an array with ${show(data[other])} at index ${other}`,
    );
  }
  throw invalid(`${where}: data must be a typed array or an array of strings, got ${show(data)}`);
}

/** onnxruntime-node would cut the one at its NUL and change the other, and answer for that. */
function readStrings(where: string, data: readonly string[]): readonly string[] {
  const bad = data.findIndex((text) => text.includes('\0') || !text.isWellFormed());
  if (bad === -1) return data;
  throw invalid(
    `${where}: the string at index ${bad} has a NUL or half a surrogate pair, which onnxruntime cannot carry`,
  );
}

/** Node 24's Float16Array has the same bytes as the Uint16Array that carries float16 on every version. */
function isFloat16Array(data: unknown): data is Uint16Array {
  return Object.prototype.toString.call(data) === '[object Float16Array]';
}

function readType(where: string, named: string | undefined, data: TensorData): TensorType {
  if (named !== undefined) {
    if (!isTensorType(named)) {
      throw invalid(`${where}: type must be one of ${Object.keys(ARRAY_TYPES).join(', ')}, got ${show(named)}`);
    }
    if (!(data instanceof ARRAY_TYPES[named])) {
      throw invalid(`${where}: ${named} data must be a ${ARRAY_TYPES[named].name}, got a ${data.constructor.name}`);
    }
    return named;
  }
  const inferred = inferType(data);
  if (inferred === undefined) {
    throw invalid(`${where}: no tensor type is carried by a ${data.constructor.name}`);
  }
  return inferred;
}

function inferType(data: TensorData): TensorType | undefined {
  if (Array.isArray(data)) return 'string';
  // float16 and bool share their array with uint16 and uint8, and must be named.
  return INFERRED_TYPES.find((type) => data instanceof ARRAY_TYPES[type]);
}

const INFERRED_TYPES = (Object.keys(ARRAY_TYPES) as TensorType[]).filter(
  (type) => type !== 'float16' && type !== 'bool' && type !== 'string',
);

type TypedArray = Exclude<TensorData, readonly string[]>;

function isOn(buffers: ReadonlySet<ArrayBufferLike>, data: TensorData): boolean {
  return ArrayBuffer.isView(data) && buffers.has(data.buffer);
}

/**
 * The buffers of the feeds that can be taken over. A view on a part (of Node's pooled Buffers, say) cannot be, without
 * taking the rest along.
 */
export function wholeBuffers(feeds: TensorFeeds): Set<ArrayBuffer> {
  const buffers = new Set<ArrayBuffer>();
  for (const { data } of Object.values(feeds)) {
    if (!ArrayBuffer.isView(data) || data.length === 0) continue;
    const { buffer } = data;
    if (buffer instanceof ArrayBuffer && data.byteLength === buffer.byteLength) buffers.add(buffer);
  }
  return buffers;
}

function copyTensor({ type, dims, data }: Tensor): Tensor {
  const copy = ArrayBuffer.isView(data) ? copyArray(data as TypedArray) : [...data];
  return { type, dims, data: copy } as Tensor;
}

/** A copy on a buffer of its own; `slice` would not copy a Buffer, nor leave a SharedArrayBuffer. */
function copyArray(data: TypedArray): TypedArray {
  const Type = data instanceof Uint8Array ? Uint8Array : (data.constructor as Uint8ArrayConstructor);
  // An empty array may be one that was detached, which can no longer be read.
  return data.length === 0 ? new Type(0) : new Type(data as Uint8Array);
}

/**
 * Holds feeds against what the model declares.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a missing or unknown input, a wrong type, rank or fixed dimension.
 */
export function checkFeeds(model: string, feeds: TensorFeeds, inputs: readonly ValueMetadata[]): void {
  for (const input of inputs) {
    if (!Object.hasOwn(feeds, input.name)) {
      throw invalid(`model ${show(model)}: input ${show(input.name)} is missing; expected ${names(inputs)}`);
    }
    checkTensor(model, feeds[input.name] as Tensor, input);
  }
  for (const name of Object.keys(feeds)) {
    if (!inputs.some((input) => input.name === name)) {
      throw invalid(`model ${show(model)} has no input ${show(name)}; expected ${names(inputs)}`);
    }
  }
}

/** @throws InfermuxError `INVALID_ARGUMENT` when a wanted output is not one of the model's. */
export function checkOutputNames(
  model: string,
  wanted: readonly string[] | undefined,
  outputs: readonly ValueMetadata[],
): void {
  const stranger = wanted?.find((name) => !outputs.some((output) => output.name === name));
  if (stranger !== undefined) {
    throw invalid(`model ${show(model)} has no output ${show(stranger)}; expected ${names(outputs)}`);
  }
}

function checkTensor(model: string, tensor: Tensor, input: ValueMetadata): void {
  const where = `model ${show(model)}: input ${show(input.name)}`;
  if (tensor.type !== input.type) {
    throw invalid(`${where} must be ${input.type}, got ${tensor.type}`);
  }
  // onnxruntime reports "no shape" and "scalar" alike as []; only a run can tell.
  if (input.shape.length === 0) return;
  const fits =
    tensor.dims.length === input.shape.length &&
    input.shape.every((size, axis) => typeof size === 'string' || size === tensor.dims[axis]);
  if (!fits) {
    throw invalid(`${where} must have dims ${showShape(input.shape)}, got ${showShape(tensor.dims)}`);
  }
}

function showShape(shape: readonly (number | string)[]): string {
  return `[${shape.map((size) => (size === '' ? '?' : size)).join(', ')}]`;
}

function names(values: readonly ValueMetadata[]): string {
  return values.length === 0 ? 'none' : values.map(({ name }) => show(name)).join(', ');
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
