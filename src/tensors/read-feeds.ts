import { InfermuxError, show, unreadableInput } from '../common/errors.js';
import {
  ARRAY_TYPES,
  elementsOf,
  type Feeds,
  isTensorType,
  setProperty,
  type Tensor,
  type TensorData,
  type TensorFeeds,
  type TensorInput,
  type TensorType,
} from './tensor.js';

const LARGEST_DIM = 2 ** 31 - 1;
/** Types that the class of the data tells; float16 and bool share theirs with others and must be named. */
const INFERRED_TYPES = (Object.keys(ARRAY_TYPES) as TensorType[]).filter(
  (type) => type !== 'float16' && type !== 'bool' && type !== 'string',
);

/**
 * Checks feeds as far as that is possible without the model. The arrays are still the caller's: see `copyFeeds` and
 * `transferFeeds`.
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

/** A request often has the dims of the one before: then both share one array, and only the data takes memory. */
let lastDims: readonly number[] = [];

function readDims(name: string, given: readonly number[]): readonly number[] {
  if (Array.isArray(given) && isSame(given, lastDims)) return lastDims;
  // The copy comes before the check: `every` skips a hole in an array, and the copy turns it into undefined.
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

/** Call it only for an error: building messages on the way of every request would be slow. */
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

/** onnxruntime-node would cut a string at a NUL, replace half a surrogate pair, and answer for the changed string. */
function readStrings(name: string, data: readonly string[]): readonly string[] {
  const bad = data.findIndex((text) => text.includes('\0') || !text.isWellFormed());
  if (bad === -1) return data;
  throw invalid(
    `${inputNamed(name)}: the string at index ${bad} has a NUL or half a surrogate pair, which onnxruntime cannot carry`,
  );
}

/** Node 24's Float16Array has the same bytes as the Uint16Array that carries float16 on every version. */
function isFloat16Array(data: TensorData): data is Uint16Array {
  // A quick exit: most requests carry a Float32Array.
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
    throw invalid(`${inputNamed(name)}: data must be the array of a tensor type, got a ${data.constructor.name}`);
  }
  return inferred;
}

function inferType(data: TensorData): TensorType | undefined {
  if (Array.isArray(data)) return 'string';
  return INFERRED_TYPES.find((type) => data instanceof ARRAY_TYPES[type]);
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
