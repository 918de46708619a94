import { InfermuxError, show, unreadableInput } from '../common/errors.js';
import {
  ARRAY_TYPES,
  type CarriedType,
  elementsOf,
  type Feeds,
  isTensorType,
  type ReadFeeds,
  setProperty,
  type Tensor,
  type TensorData,
  type TensorInput,
  type TensorType,
  type UntypedTensor,
} from './tensor.js';
import { asCarried, inferredType, isFitting, typedArrayClass } from './typed-arrays.js';
import { isElement, notAlike, readElements, toType } from './untyped-elements.js';

const LARGEST_DIM = 2 ** 31 - 1;
const EXPECTED_DATA = 'data must be a typed array, or an array of numbers, bigints, booleans or strings';

/**
 * Checks feeds as far as that is possible without the model. The arrays are still the caller's: see `copyFeeds` and
 * `transferFeeds`.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming the input, what was expected and what came.
 */
export function readFeeds(feeds: Feeds): ReadFeeds {
  if (feeds === null || typeof feeds !== 'object' || Array.isArray(feeds)) {
    throw invalid(`feeds must be an object of tensors by input name, got ${show(feeds)}`);
  }
  const read: Record<string, Tensor | UntypedTensor> = {};
  try {
    for (const name in feeds) if (Object.hasOwn(feeds, name)) setProperty(read, name, readTensor(feeds[name], name));
  } catch (cause) {
    throw unreadableInput('feeds', cause);
  }
  return read;
}

function readTensor(input: TensorInput | undefined, name: string): Tensor | UntypedTensor {
  if (input === null || typeof input !== 'object' || Array.isArray(input) || ArrayBuffer.isView(input)) {
    throw invalid(`${inputNamed(name)} must be a tensor { data, dims, type? }, got ${show(input)}`);
  }
  const given = readData(name, input);
  const { type, data } = Array.isArray(given)
    ? readArray(name, input.type, given)
    : readTypedArray(name, input.type, given as TypedArray);
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

type TypedArray = Exclude<TensorInput['data'], readonly unknown[]>;
interface Elements {
  readonly type: CarriedType;
  readonly data: TensorData;
}

function readData(name: string, input: TensorInput): unknown {
  try {
    return input.data;
  } catch (cause) {
    // An ort.Tensor on a GPU throws from its getter.
    throw new InfermuxError('INVALID_ARGUMENT', `${inputNamed(name)}: data must be on the CPU`, { cause });
  }
}

function readTypedArray(name: string, named: string | undefined, given: TypedArray): Elements {
  const arrayClass = typedArrayClass(given);
  if (arrayClass === undefined) throw invalid(`${inputNamed(name)}: ${EXPECTED_DATA}, got ${show(given)}`);
  const inferred = inferredType(arrayClass);
  const type = named === undefined || named === inferred ? inferred : readType(name, named);
  if (type === undefined) {
    throw invalid(`${inputNamed(name)}: data must be the array of a tensor type, got a ${arrayClass}`);
  }
  if (type === 'string' || (type !== inferred && !isFitting(type, arrayClass))) {
    throw invalid(`${inputNamed(name)}: ${type} data must be a ${ARRAY_TYPES[type].name}, got a ${arrayClass}`);
  }
  return { type, data: asCarried(type, arrayClass, given) };
}

function readArray(name: string, named: string | undefined, given: readonly unknown[]): Elements {
  const type = readType(name, named);
  const [first] = given;
  if (typeof first === 'string') {
    if (type === undefined || type === 'string') return { type: 'string', data: readStrings(name, given) };
    throw invalid(`${inputNamed(name)}: ${type} data must be numbers, got an array of strings`);
  }
  if (given.length > 0 && !isElement(first)) {
    const nested = Array.isArray(first) || ArrayBuffer.isView(first);
    const what = nested ? 'an array in an array: flatten it, for example with data.flat(Infinity)' : show(first);
    throw invalid(`${inputNamed(name)}: ${EXPECTED_DATA}, got ${what}`);
  }
  const elements = readElements(inputNamed(name), given);
  return type === undefined ? elements : { type, data: toType(inputNamed(name), type, elements) };
}

/** onnxruntime-node would cut a string at a NUL, replace half a surrogate pair, and answer for the changed string. */
function readStrings(name: string, given: readonly unknown[]): readonly string[] {
  const other = given.findIndex((element) => typeof element !== 'string');
  if (other !== -1) throw notAlike(inputNamed(name), 'string', given, other);
  const strings = given as readonly string[];
  const bad = strings.findIndex((text) => text.includes('\0') || !text.isWellFormed());
  if (bad === -1) return strings;
  throw invalid(
    `${inputNamed(name)}: the string at index ${bad} has a NUL or half a surrogate pair, which onnxruntime cannot carry`,
  );
}

function readType(name: string, named: string | undefined): TensorType | undefined {
  if (named === undefined || isTensorType(named)) return named;
  throw invalid(`${inputNamed(name)}: type must be one of ${Object.keys(ARRAY_TYPES).join(', ')}, got ${show(named)}`);
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
