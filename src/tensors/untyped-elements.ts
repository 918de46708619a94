import { InfermuxError, show } from '../common/errors.js';
import { toFloat16 } from './float16.js';
import { arrayTypeOf, type TensorData, type TensorType, type UntypedTensor, type UntypedType } from './tensor.js';

type ElementKind = 'number' | 'bigint' | 'boolean';
type NumericType = Exclude<TensorType, 'string'>;

const LARGEST_INT64 = 2n ** 63n - 1n;

/** Lowest and highest value of the types of integers. */
const RANGES: { readonly [T in TensorType]?: readonly [bigint, bigint] } = {
  int8: [-(2n ** 7n), 2n ** 7n - 1n],
  uint8: [0n, 2n ** 8n - 1n],
  int16: [-(2n ** 15n), 2n ** 15n - 1n],
  uint16: [0n, 2n ** 16n - 1n],
  int32: [-(2n ** 31n), 2n ** 31n - 1n],
  uint32: [0n, 2n ** 32n - 1n],
  int64: [-(2n ** 63n), LARGEST_INT64],
  uint64: [0n, 2n ** 64n - 1n],
  bool: [0n, 1n],
};

export function isElement(value: unknown): value is number | bigint | boolean {
  return typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean';
}

/**
 * Copies an array of numbers, bigints or booleans. It keeps every value exactly.
 *
 * @param where names the input in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` for elements of several kinds, and bigints that no type holds together.
 */
export function readElements(where: string, given: readonly unknown[]): Pick<UntypedTensor, 'type' | 'data'> {
  const [first = 0] = given;
  const kind = typeof first as ElementKind;
  // A hole in the array is undefined, and so no element of the kind.
  const other = given.findIndex((element) => typeof element !== kind);
  if (other !== -1) {
    const nested =
      typeof given[other] === 'object' ? '; flatten arrays in arrays, for example with data.flat(Infinity)' : '';
    const message = `${where}: data must hold ${kind}s alone, as at index 0, got ${show(given[other])} at index ${other}`;
    throw invalid(message + nested);
  }
  const type = kind === 'bigint' ? bigintType(where, given as readonly bigint[]) : kind;
  return { type, data: new (arrayTypeOf(type) as Float64ArrayConstructor)(given as readonly number[]) };
}

function bigintType(where: string, given: readonly bigint[]): UntypedType {
  let lowest = 0n;
  let highest = 0n;
  for (const element of given) {
    if (element < lowest) lowest = element;
    if (element > highest) highest = element;
  }
  if (lowest >= -LARGEST_INT64 - 1n && highest <= LARGEST_INT64) return 'bigint';
  if (lowest === 0n && highest < 2n ** 64n) return 'large bigint';
  throw invalid(`${where}: data must fit int64 or uint64, and goes from ${lowest} to ${highest}`);
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

function boundsOf(type: TensorType, [lowest, highest]: readonly [bigint, bigint]): string {
  return type === 'bool' ? 'true, false, 1 or 0' : `an integer from ${lowest} to ${highest}`;
}

/** @returns the index of the first number that becomes infinite, if there is one. */
function toFloats(type: NumericType, elements: UntypedTensor['data']): TensorData | number {
  const data = new (arrayTypeOf(type) as Float64ArrayConstructor)(elements.length);
  const isFloat16 = type === 'float16';
  for (let index = 0; index < elements.length; index += 1) {
    const value = Number(elements[index]);
    data[index] = isFloat16 ? toFloat16(value) : value;
    const isInfinite = isFloat16 ? ((data[index] as number) & 0x7fff) === 0x7c00 : !Number.isFinite(data[index]);
    if (isInfinite && Number.isFinite(value)) return index;
  }
  return data;
}

/** @returns the index of the first element that is no integer in the range, if there is one. */
function toIntegers(
  type: NumericType,
  [lowest, highest]: readonly [bigint, bigint],
  elements: UntypedTensor['data'],
): TensorData | number {
  const data = new (arrayTypeOf(type) as Float64ArrayConstructor)(elements.length);
  const isBig = type === 'int64' || type === 'uint64';
  for (let index = 0; index < elements.length; index += 1) {
    const element = elements[index] as number | bigint;
    // A comparison of a number with a bigint is exact.
    if (!(element >= lowest && element <= highest)) return index;
    if (typeof element === 'number' && !Number.isInteger(element)) return index;
    (data as unknown as (number | bigint)[])[index] = isBig ? BigInt(element) : Number(element);
  }
  return data;
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
