import { isLength } from '../common/checks.js';
import { InfermuxError, show, unreadableInput } from '../common/errors.js';
import {
  ARRAY_TYPES,
  type CarriedType,
  elementsOf,
  type Feeds,
  isDim,
  isTensorType,
  LARGEST_DIM,
  MOST_DIMS,
  newTensor,
  type ReadFeeds,
  setProperty,
  type Tensor,
  type TensorData,
  type TensorInput,
  type TensorType,
  type UntypedTensor,
} from './tensor.js';
import { asCarried, inferredType, isFitting, lengthOf, typedArrayClass } from './typed-arrays.js';
import { isElement, notAlike, readElements, toType } from './untyped-elements.js';

/** Far more inputs than a model has. */
const MOST_INPUTS = 10_000;
/** V8 has no array with more elements, other than one with holes. */
const MOST_LISTED = 2 ** 27;
const EXPECTED_DATA = 'data must be a typed array, or an array of numbers, bigints, booleans or strings';

/**
 * Checks feeds as far as that is possible without the model. The arrays are still the caller's: see `copyFeeds` and
 * `transferFeeds`.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` naming the input, what was expected and what came.
 */
export function readFeeds(feeds: Feeds): ReadFeeds {
  // A view has a key for each element.
  if (feeds === null || typeof feeds !== 'object' || Array.isArray(feeds) || ArrayBuffer.isView(feeds)) {
    throw invalid(`feeds must be an object of tensors by input name, got ${show(feeds)}`);
  }
  const read: Record<string, Tensor | UntypedTensor> = {};
  try {
    let inputs = 0;
    for (const name in feeds) {
      if (!Object.hasOwn(feeds, name)) continue;
      inputs += 1;
      if (inputs > MOST_INPUTS) throw invalid(`feeds must have at most ${MOST_INPUTS} inputs, and have more`);
      setProperty(read, name, readTensor(feeds[name], name));
    }
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
  if (!Array.isArray(given)) {
    const { type, data } = readTypedArray(name, input.type, given as TypedArray);
    const dims = readDims(name, input.dims);
    checkLength(name, dims, lengthOf(data));
    return newTensor(type, dims, data);
  }
  // Before the elements: so that no more of them are read than the dims need, whatever the list says of its length.
  const dims = readDims(name, input.dims);
  const length: unknown = given.length;
  if (!isLength(length, MOST_LISTED)) {
    throw invalid(`${inputNamed(name)}: data must have at most ${MOST_LISTED} elements, got length ${show(length)}`);
  }
  const { type, data } = readArray(name, input.type, given, length, dims);
  return newTensor(type, dims, data);
}

function checkLength(name: string, dims: readonly number[], length: number): void {
  const elements = elementsOf(dims);
  if (length === elements) return;
  throw invalid(`${inputNamed(name)}: dims ${show(dims)} need ${elements} elements, data has ${length}`);
}

/** A request often has the dims of the one before: then both share one array, and only the data takes memory. */
let lastDims: readonly number[] = [];

function readDims(name: string, given: readonly number[]): readonly number[] {
  if (!Array.isArray(given)) throw notDims(name, given);
  const length: unknown = given.length;
  if (length === lastDims.length && areLast(given)) return lastDims;
  if (!isLength(length, MOST_DIMS)) {
    throw invalid(`${inputNamed(name)}: dims must have at most ${MOST_DIMS} dimensions, got length ${show(length)}`);
  }
  const dims: number[] = [];
  for (let axis = 0; axis < length; axis += 1) {
    const size: unknown = given[axis];
    if (!isDim(size)) throw notDims(name, given);
    dims.push(size);
  }
  lastDims = dims;
  return dims;
}

/** Whether the dims are the last ones; both have as many. */
function areLast(given: readonly number[]): boolean {
  for (let axis = 0; axis < lastDims.length; axis += 1) if (lastDims[axis] !== given[axis]) return false;
  return true;
}

function notDims(name: string, given: unknown): InfermuxError {
  return invalid(`${inputNamed(name)}: dims must be an array of integers from 0 to ${LARGEST_DIM}, got ${show(given)}`);
}

/** Call it only for an error: building messages on the way of every request would be slow. */
function inputNamed(name: string): string {
  return `input ${show(name)}`;
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

function readArray(
  name: string,
  named: string | undefined,
  given: readonly unknown[],
  length: number,
  dims: readonly number[],
): Elements {
  const type = readType(name, named);
  const first = length > 0 ? given[0] : undefined;
  if (typeof first === 'string') {
    checkLength(name, dims, length);
    if (type === undefined || type === 'string') return { type: 'string', data: readStrings(name, given, length) };
    throw invalid(`${inputNamed(name)}: ${type} data must be numbers, got an array of strings`);
  }
  if (length > 0 && !isElement(first)) {
    const nested = Array.isArray(first) || ArrayBuffer.isView(first);
    const what = nested ? 'an array in an array: flatten it, for example with data.flat(Infinity)' : show(first);
    throw invalid(`${inputNamed(name)}: ${EXPECTED_DATA}, got ${what}`);
  }
  checkLength(name, dims, length);
  const elements = readElements(inputNamed(name), given, length);
  return type === undefined ? elements : { type, data: toType(inputNamed(name), type, elements) };
}

/** onnxruntime-node would cut a string at a NUL, replace half a surrogate pair, and answer for the changed string. */
function readStrings(name: string, given: readonly unknown[], length: number): readonly string[] {
  const strings: string[] = [];
  for (let index = 0; index < length; index += 1) {
    const text = given[index];
    if (typeof text !== 'string') throw notAlike(inputNamed(name), 'string', text, index);
    if (text.includes('\0') || !text.isWellFormed()) {
      throw invalid(
        `${inputNamed(name)}: the string at index ${index} has a NUL or half a surrogate pair, which onnxruntime cannot carry`,
      );
    }
    strings.push(text);
  }
  return strings;
}

function readType(name: string, named: string | undefined): TensorType | undefined {
  if (named === undefined || isTensorType(named)) return named;
  throw invalid(`${inputNamed(name)}: type must be one of ${Object.keys(ARRAY_TYPES).join(', ')}, got ${show(named)}`);
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
