import { InfermuxError, show, unreadableInput } from '../common/errors.js';
import { bufferPool } from './buffer-pool.js';
import {
  ARRAY_TYPES,
  arrayTypeOf,
  elementsOf,
  type Feeds,
  isTensorType,
  setProperty,
  type Tensor,
  type TensorData,
  type TensorFeeds,
  type TensorInput,
  type TensorType,
  type ValueMetadata,
} from './tensor.js';

const LARGEST_DIM = 2 ** 31 - 1;

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
  const read: Record<string, Tensor> = {};
  try {
    for (const name in feeds) if (Object.hasOwn(feeds, name)) setProperty(read, name, readTensor(feeds[name], name));
  } catch (cause) {
    throw unreadableInput('feeds', cause);
  }
  return read;
}

/**
 * Puts the feeds on memory of their own, but for those on the `kept` buffers.
 *
 * @returns to be called when nobody reads the feeds any more, so that their memory is used again; undefined where it is not
 *   worth it.
 * @throws InfermuxError `INVALID_ARGUMENT` for an array that has changed its length since it was read.
 */
export function copyFeeds(feeds: TensorFeeds, kept?: ReadonlySet<ArrayBufferLike>): (() => void) | undefined {
  let taken: ArrayBuffer[] | undefined;
  for (const name in feeds) {
    const tensor = feeds[name] as { type: TensorType; dims: readonly number[]; data: TensorData };
    const { type, dims, data } = tensor;
    if (kept !== undefined && isOn(kept, data)) continue;
    // A buffer can be resized by another thread, or by a getter of the next input; the memory of others must not show.
    if (data.length !== elementsOf(dims)) throw invalid(`${inputNamed(name)}: data changed its length meanwhile`);
    if (type === 'string') tensor.data = [...(data as readonly string[])];
    else if ((data as TypedArray).byteLength <= SHARED_UP_TO_BYTES) tensor.data = copyOntoShared(type, data);
    else {
      const buffer = bufferPool.take((data as TypedArray).byteLength);
      tensor.data = copyOnto(buffer, 0, type, data);
      taken ??= [];
      taken.push(buffer);
    }
  }
  return taken && giveBackOnce(taken);
}

/** A buffer that was given back twice would be two requests'. */
function giveBackOnce(taken: ArrayBuffer[]): () => void {
  return () => {
    for (const buffer of taken.splice(0)) bufferPool.giveBack(buffer);
  };
}

/** Takes these buffers over: the caller's arrays on them are empty from now on. */
export function transferFeeds(feeds: TensorFeeds, buffers: ReadonlySet<ArrayBuffer>): void {
  if (buffers.size === 0) return;
  try {
    const tensors = Object.values(feeds) as { data: TensorData }[];
    const taken = tensors.map(({ data }) => (isOn(buffers, data) ? data : undefined));
    // All at once, because two inputs may share a buffer.
    const own = structuredClone(taken, { transfer: [...buffers] });
    for (const [index, tensor] of tensors.entries()) tensor.data = own[index] ?? tensor.data;
  } catch {
    // WebAssembly memory, say, belongs to its owner for good.
    copyFeeds(feeds);
  }
}

function readTensor(input: TensorInput | undefined, name: string): Tensor {
  if (input === null || typeof input !== 'object') {
    throw invalid(`${inputNamed(name)} must be a tensor { data, dims, type? }, got ${show(input)}`);
  }
  const given = readData(name, input);
  const data = isFloat16Array(given) ? new Uint16Array(given.buffer, given.byteOffset, given.length) : given;
  const type = readType(name, input.type ?? (data === given ? undefined : 'float16'), data);
  const dims = readDims(name, input.dims);
  const elements = elementsOf(dims);
  if (data.length !== elements) {
    throw invalid(`${inputNamed(name)}: dims ${show(dims)} need ${elements} elements, data has ${data.length}`);
  }
  return { type, dims, data } as Tensor;
}

/** Requests tend to have the dims of the one before: then they share them, and nothing waits in memory but the data. */
let lastDims: readonly number[] = [];

function readDims(name: string, given: readonly number[]): readonly number[] {
  if (Array.isArray(given) && isSame(given, lastDims)) return lastDims;
  // Copied before it is checked: a hole in an array is skipped by `every`, and becomes undefined here.
  const dims = Array.isArray(given) ? [...given] : undefined;
  if (dims === undefined || !dims.every(isDim)) {
    throw invalid(
      `${inputNamed(name)}: dims must be an array of integers from 0 to ${LARGEST_DIM}, got ${show(given)}`,
    );
  }
  lastDims = dims;
  return dims;
}

function isSame(left: readonly number[], right: readonly number[]): boolean {
  if (left.length !== right.length) return false;
  for (let axis = 0; axis < right.length; axis += 1) if (left[axis] !== right[axis]) return false;
  return true;
}

/** Messages are put together only when there is something to say: this is on the way of every request. */
function inputNamed(name: string): string {
  return `input ${show(name)}`;
}

function isDim(size: unknown): boolean {
  return Number.isInteger(size) && (size as number) >= 0 && (size as number) <= LARGEST_DIM;
}

function readData(name: string, input: TensorInput): TensorData {
  let data: unknown;
  try {
    data = input.data;
  } catch (cause) {
    // An ort.Tensor on a GPU throws from its getter.
    throw new InfermuxError('INVALID_ARGUMENT', `${inputNamed(name)}: data must be on the CPU`, { cause });
  }
  if (ArrayBuffer.isView(data) && !(data instanceof DataView)) return data as TensorData;
  if (Array.isArray(data)) {
    const other = data.findIndex((element) => typeof element !== 'string');
    if (other === -1) return readStrings(name, data);
    const found = `an array with ${show(data[other])} at index ${other}`;
    throw invalid(`${inputNamed(name)}: data must be a typed array or an array of strings, got ${found}`);
  }
  throw invalid(`${inputNamed(name)}: data must be a typed array or an array of strings, got ${show(data)}`);
}

/** onnxruntime-node would cut the one at its NUL and change the other, and answer for that. */
function readStrings(name: string, data: readonly string[]): readonly string[] {
  const bad = data.findIndex((text) => text.includes('\0') || !text.isWellFormed());
  if (bad === -1) return data;
  throw invalid(
    `${inputNamed(name)}: the string at index ${bad} has a NUL or half a surrogate pair, which onnxruntime cannot carry`,
  );
}

/** Node 24's Float16Array has the same bytes as the Uint16Array that carries float16 on every version. */
function isFloat16Array(data: TensorData): data is Uint16Array {
  // What most requests carry is told by its class.
  if (data instanceof Float32Array) return false;
  return Object.prototype.toString.call(data) === '[object Float16Array]';
}

function readType(name: string, named: string | undefined, data: TensorData): TensorType {
  if (data instanceof Float32Array && (named === undefined || named === 'float32')) return 'float32';
  if (named !== undefined) {
    if (!isTensorType(named)) {
      throw invalid(
        `${inputNamed(name)}: type must be one of ${Object.keys(ARRAY_TYPES).join(', ')}, got ${show(named)}`,
      );
    }
    if (!(data instanceof ARRAY_TYPES[named])) {
      throw invalid(
        `${inputNamed(name)}: ${named} data must be a ${ARRAY_TYPES[named].name}, got a ${data.constructor.name}`,
      );
    }
    return named;
  }
  const inferred = inferType(data);
  if (inferred === undefined) {
    throw invalid(`${inputNamed(name)}: no tensor type is carried by a ${data.constructor.name}`);
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
type ArrayTensorType = Exclude<TensorType, 'string'>;

function isOn(buffers: ReadonlySet<ArrayBufferLike>, data: TensorData): boolean {
  return ArrayBuffer.isView(data) && buffers.has(data.buffer);
}

/**
 * The buffers of the feeds that can be taken over. A view on a part (of Node's pooled Buffers, say) cannot be, without
 * taking the rest along.
 */
export function transferableBuffers(feeds: TensorFeeds): Set<ArrayBuffer> {
  const buffers = new Set<ArrayBuffer>();
  for (const { data } of Object.values(feeds)) {
    if (!ArrayBuffer.isView(data) || data.length === 0) continue;
    const { buffer } = data;
    if (buffer instanceof ArrayBuffer && data.byteLength === buffer.byteLength) buffers.add(buffer);
  }
  return buffers;
}

/** Copies up to so many bytes share a buffer: one for each costs the garbage collector more than all else of a request. */
const SHARED_UP_TO_BYTES = 1_024;
const SHARED_BYTES = 65_536;
/** Every view starts at a multiple of the largest element. */
const ALIGNMENT = 8;

let shared = new ArrayBuffer(SHARED_BYTES);
let sharedOffset = 0;

function copyOntoShared(type: ArrayTensorType, data: TensorData): TensorData {
  const bytes = (data as TypedArray).byteLength;
  if (sharedOffset + bytes > SHARED_BYTES) {
    shared = new ArrayBuffer(SHARED_BYTES);
    sharedOffset = 0;
  }
  const copy = copyOnto(shared, sharedOffset, type, data);
  sharedOffset = Math.ceil((sharedOffset + bytes) / ALIGNMENT) * ALIGNMENT;
  return copy;
}

/** Not with the class of the data, which may be one of the caller's and do as it likes with the buffer. */
function copyOnto(buffer: ArrayBuffer, offset: number, type: ArrayTensorType, data: TensorData): TensorData {
  const ArrayType = arrayTypeOf(type);
  const copy = new ArrayType(buffer, offset, data.length) as Float32Array;
  // An empty array may be one that was detached, which can no longer be read.
  if (data.length > 0) copy.set(data as Float32Array);
  return copy;
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
  let given = 0;
  for (const _ in feeds) given += 1;
  if (given === inputs.length) return;
  const stranger = Object.keys(feeds).find((name) => !inputs.some((input) => input.name === name));
  if (stranger === undefined) return;
  throw invalid(`model ${show(model)} has no input ${show(stranger)}; expected ${names(inputs)}`);
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
  if (tensor.type !== input.type) {
    throw invalid(`${inputOf(model, input)} must be ${input.type}, got ${tensor.type}`);
  }
  // onnxruntime reports "no shape" and "scalar" alike as []; only a run can tell.
  if (input.shape.length === 0) return;
  const fits =
    tensor.dims.length === input.shape.length &&
    input.shape.every((size, axis) => typeof size === 'string' || size === tensor.dims[axis]);
  if (!fits) {
    throw invalid(`${inputOf(model, input)} must have dims ${showShape(input.shape)}, got ${showShape(tensor.dims)}`);
  }
}

function inputOf(model: string, { name }: ValueMetadata): string {
  return `model ${show(model)}: input ${show(name)}`;
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
