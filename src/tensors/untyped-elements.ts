import { InfermuxError, show } from '../common/errors.js';
import { isInfiniteFloat16, toFloat16 } from './float16.js';
import { arrayTypeOf, type TensorData, type TensorType, type UntypedTensor, type UntypedType } from './tensor.js';

type ElementKind = 'number' | 'bigint' | 'boolean';
type NumericType = Exclude<TensorType, 'string'>;
type Range = readonly [lowest: bigint, highest: bigint];

const LOWEST_INT64 = -(2n ** 63n);
const LARGEST_INT64 = 2n ** 63n - 1n;
/** The largest float64 that is less than any int64. */
const BELOW_INT64 = -(2 ** 63) - 2_048;

/** Lowest and highest value of the types of integers. */
const RANGES: { readonly [T in TensorType]?: Range } = {
  int8: [-(2n ** 7n), 2n ** 7n - 1n],
  uint8: [0n, 2n ** 8n - 1n],
  int16: [-(2n ** 15n), 2n ** 15n - 1n],
  uint16: [0n, 2n ** 16n - 1n],
  int32: [-(2n ** 31n), 2n ** 31n - 1n],
  uint32: [0n, 2n ** 32n - 1n],
  int64: [LOWEST_INT64, LARGEST_INT64],
  uint64: [0n, 2n ** 64n - 1n],
  bool: [0n, 1n],
};

export function isElement(value: unknown): value is number | bigint | boolean {
  return typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean';
}

/**
 * Copies an array of numbers, bigints or booleans. It keeps every value that a type of integers holds.
 *
 * @param where names the input in messages.
 * @param length how many elements to read: the array may say another length each time.
 * @throws InfermuxError `INVALID_ARGUMENT` for elements of several kinds.
 */
export function readElements(
  where: string,
  given: readonly unknown[],
  length: number = given.length,
): Pick<UntypedTensor, 'type' | 'data'> {
  const kind = (length > 0 ? typeof given[0] : 'number') as ElementKind;
  const elements: unknown[] | Float64Array | Uint8Array =
    kind === 'bigint' ? [] : (new (arrayTypeOf(kind))(length) as Float64Array | Uint8Array);
  for (let index = 0; index < length; index += 1) {
    const element = given[index];
    // A hole in the array is undefined, and so no element of the kind.
    if (typeof element !== kind) throw notAlike(where, kind, element, index);
    elements[index] = element as number;
  }
  if (kind === 'bigint') return readBigints(elements as unknown as readonly bigint[]);
  return { type: kind, data: elements as Float64Array };
}

/** @param other the element at the index, which is not of the kind of the first. */
export function notAlike(where: string, kind: string, other: unknown, index: number): InfermuxError {
  const hint = typeof other === 'object' ? '; flatten arrays in arrays, for example with data.flat(Infinity)' : '';
  const message = `${where}: data must hold ${kind}s alone, as at index 0, got ${show(other)} at index ${index}`;
  return invalid(message + hint);
}

/** Numbers carry what no type of integers holds together. None of them comes into the range of a type by rounding. */
function readBigints(given: readonly bigint[]): Pick<UntypedTensor, 'type' | 'data'> {
  let lowest = 0n;
  let highest = 0n;
  for (const element of given) {
    if (element < lowest) lowest = element;
    if (element > highest) highest = element;
  }
  if (lowest >= LOWEST_INT64 && highest <= LARGEST_INT64) return { type: 'bigint', data: BigInt64Array.from(given) };
  if (lowest === 0n && highest < 2n ** 64n) return { type: 'large bigint', data: BigUint64Array.from(given) };
  const toNumber = (element: bigint) =>
    element < LOWEST_INT64 ? Math.min(Number(element), BELOW_INT64) : Number(element);
  return { type: 'number', data: Float64Array.from(given, toNumber) };
}

/**
 * Returns the elements as data of a type: the nearest floating-point numbers, or exactly the same integers. `true` and
 * `false` are 1 and 0.
 *
 * @param where names the input in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` naming the first element that the type cannot hold.
 */
export function toType(where: string, type: TensorType, elements: Pick<UntypedTensor, 'type' | 'data'>): TensorData {
  if (type === 'string') {
    // Nobody can tell what an empty array was meant to hold.
    if (elements.data.length === 0) return [];
    throw invalid(`${where} must be string, got an array of ${kindOf(elements.type)}s`);
  }
  const range = RANGES[type];
  const data = range === undefined ? toFloats(type, elements.data) : toIntegers(type, range, elements.data);
  if (typeof data !== 'number') return data;
  const bounds = range === undefined ? 'the number is too large' : `expected ${boundsOf(type, range)}`;
  throw invalid(`${where}: ${elements.data[data]} at index ${data} is no ${type}: ${bounds}`);
}

function kindOf(type: UntypedType): ElementKind {
  return type === 'large bigint' ? 'bigint' : type;
}

function boundsOf(type: TensorType, [lowest, highest]: Range): string {
  return type === 'bool' ? 'true, false, 1 or 0' : `an integer from ${lowest} to ${highest}`;
}

/** @returns the index of the first number that becomes infinite, if there is one. */
function toFloats(type: NumericType, elements: UntypedTensor['data']): TensorData | number {
  const values = areBigints(elements) ? Float64Array.from(elements as BigInt64Array, Number) : elements;
  if (type === 'float16') return toFloat16s(values);
  const data = new (arrayTypeOf(type) as Float64ArrayConstructor)(values);
  for (let index = 0; index < data.length; index += 1) {
    if (!Number.isFinite(data[index]) && Number.isFinite(values[index])) return index;
  }
  return data;
}

function toFloat16s(values: Float64Array | Uint8Array): Uint16Array | number {
  const data = new Uint16Array(values.length);
  for (let index = 0; index < data.length; index += 1) {
    const bits = toFloat16(values[index] as number);
    if (isInfiniteFloat16(bits) && Number.isFinite(values[index])) return index;
    data[index] = bits;
  }
  return data;
}

/** @returns the index of the first element that is no integer in the range, if there is one. */
function toIntegers(type: NumericType, range: Range, elements: UntypedTensor['data']): TensorData | number {
  const isBig = type === 'int64' || type === 'uint64';
  const data = new (arrayTypeOf(type) as Float64ArrayConstructor)(elements.length);
  const bad = areBigints(elements) ? findOutside(range, elements) : findNoInteger(range, elements);
  if (bad !== -1) return bad;
  const convert = (isBig ? BigInt : Number) as (element: number | bigint) => number;
  for (let index = 0; index < elements.length; index += 1) data[index] = convert(elements[index] as number | bigint);
  return data;
}

function findOutside([lowest, highest]: Range, elements: BigInt64Array | BigUint64Array): number {
  return elements.findIndex((element) => element < lowest || element > highest);
}

/** Compares numbers with numbers, since comparisons with bigints are slow: one above the highest is a power of two. */
function findNoInteger([lowest, highest]: Range, elements: Float64Array | Uint8Array): number {
  const [from, below] = [Number(lowest), Number(highest + 1n)];
  for (let index = 0; index < elements.length; index += 1) {
    const element = elements[index] as number;
    if (!(element >= from && element < below && Number.isInteger(element))) return index;
  }
  return -1;
}

function areBigints(elements: UntypedTensor['data']): elements is BigInt64Array | BigUint64Array {
  return typeof elements[0] === 'bigint';
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
