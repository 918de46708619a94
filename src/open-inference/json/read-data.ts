import { InfermuxError, show } from '../../common/errors.js';
import { elementsOf, type Tensor, type TensorData } from '../../tensors/tensor.js';
import { type Datatype, typeOf } from '../datatypes.js';
import type { Allocate, TensorHead } from '../raw-tensors.js';
import type { Range } from './json-cutter.js';
import { NumberReader } from './number-reader.js';
import type { Steps } from './steps.js';
import { StringReader } from './string-reader.js';

/** Numbers are read in chunks of so many, and each chunk is converted by one call. It takes about 0.1 ms. */
const CHUNK = 2_048;

const chunk = new Float64Array(CHUNK);

/** The least and the most of each type of integers that a double holds. */
const RANGES: Readonly<Partial<Record<Datatype, readonly [number, number]>>> = {
  BOOL: [0, 1],
  UINT8: [0, 2 ** 8 - 1],
  UINT16: [0, 2 ** 16 - 1],
  UINT32: [0, 2 ** 32 - 1],
  INT8: [-(2 ** 7), 2 ** 7 - 1],
  INT16: [-(2 ** 15), 2 ** 15 - 1],
  INT32: [-(2 ** 31), 2 ** 31 - 1],
};

/**
 * Reads the data of a tensor from a range of a JSON text.
 *
 * @param list names the data in messages, with the index of the tensor.
 * @throws InfermuxError `INVALID_ARGUMENT` for elements that the type cannot hold, and another number of them than the
 *   shape needs.
 */
export function* readData(
  list: string,
  index: number,
  bytes: Buffer,
  range: Range,
  { datatype, shape }: Pick<TensorHead, 'datatype' | 'shape'>,
  allocate: Allocate,
): Steps<Tensor> {
  const { start, end } = range;
  const where = `${list}[${index}].data`;
  const type = typeOf(datatype);
  const elements = elementsOf(shape);
  // Before any memory is taken: an element and the comma after it are two bytes.
  const most = Math.floor((end - start + 1) / 2);
  if (elements > most) throw wrongCount(where, shape, 'fewer');
  if (type === 'string') return { type, dims: shape, data: yield* readStrings(where, bytes, range, shape) };
  if (type === 'float16') {
    const message = `${where}: FP16 has no JSON form; send the binary form, with Inference-Header-Content-Length`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const tensor = allocate(type, shape) as Exclude<Tensor, { type: 'string' }>;
  const is64 = datatype === 'INT64' || datatype === 'UINT64';
  const target = is64 ? new LargeIntegers(where, datatype, tensor.data as BigInt64Array) : undefined;
  const reader = new NumberReader(where, bytes, start, end, {
    isSingle: datatype === 'FP32',
    isBoolean: datatype === 'BOOL',
    large: target === undefined ? undefined : (at, value) => target.write(at, value),
  });
  for (let count = 0; ; yield) {
    // Empty between two steps, so that all readers share it.
    const filled = reader.fill(chunk);
    if (count + filled > elements) throw wrongCount(where, shape, 'more');
    const numbers = filled === chunk.length ? chunk : chunk.subarray(0, filled);
    if (target !== undefined) target.set(numbers, count);
    else {
      checkRange(where, datatype, numbers, count);
      (tensor.data as Exclude<TensorData, readonly string[] | BigInt64Array | BigUint64Array>).set(numbers, count);
    }
    count += filled;
    if (filled === chunk.length) continue;
    if (count < elements) throw wrongCount(where, shape, String(count));
    return tensor;
  }
}

function* readStrings(where: string, bytes: Buffer, { start, end }: Range, shape: readonly number[]): Steps<string[]> {
  const elements = elementsOf(shape);
  const reader = new StringReader(where, bytes, start, end);
  const strings: string[] = [];
  while (!reader.read(strings, CHUNK)) {
    if (strings.length > elements) break;
    yield;
  }
  if (strings.length !== elements) throw wrongCount(where, shape, String(strings.length));
  return strings;
}

function checkRange(where: string, datatype: Datatype, numbers: Float64Array, before: number): void {
  const range = RANGES[datatype];
  if (range === undefined) return;
  const [least, most] = range;
  for (let index = 0; index < numbers.length; index += 1) {
    const value = numbers[index] as number;
    if (Number.isInteger(value) && value >= least && value <= most) continue;
    const expected = datatype === 'BOOL' ? 'true or false, or 0 or 1' : `an integer from ${least} to ${most}`;
    const message = `${where}: element ${before + index} of ${datatype} must be ${expected}, got ${value}`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
}

/** The elements of an INT64 or UINT64 tensor. */
class LargeIntegers {
  readonly #where: string;
  readonly #datatype: Datatype;
  readonly #data: BigInt64Array | BigUint64Array;
  /** The halves of each element: to write these makes no bigint. */
  readonly #halves: Int32Array;
  /** Elements of the chunk that were written already. */
  readonly #written = new Set<number>();

  constructor(where: string, datatype: Datatype, data: BigInt64Array | BigUint64Array) {
    this.#where = where;
    this.#datatype = datatype;
    this.#data = data;
    this.#halves = new Int32Array(data.buffer, data.byteOffset, data.length * 2);
  }

  write(index: number, value: bigint): void {
    const fits = this.#isSigned ? BigInt.asIntN(64, value) === value : BigInt.asUintN(64, value) === value;
    if (!fits) throw this.#outOfRange(index, value);
    // One element too many is found when the chunk is full.
    if (index < this.#data.length) this.#data[index] = value;
    this.#written.add(index);
  }

  /** @param before elements before the chunk. */
  set(numbers: Float64Array, before: number): void {
    const halves = this.#halves;
    for (let index = 0; index < numbers.length; index += 1) {
      const at = before + index;
      if (this.#written.size > 0 && this.#written.has(at)) continue;
      const value = numbers[index] as number;
      if (!Number.isSafeInteger(value) || (value < 0 && !this.#isSigned)) throw this.#outOfRange(at, value);
      halves[2 * at] = value | 0;
      halves[2 * at + 1] = Math.floor(value / 2 ** 32);
    }
    this.#written.clear();
  }

  get #isSigned(): boolean {
    return this.#datatype === 'INT64';
  }

  #outOfRange(index: number, value: number | bigint): InfermuxError {
    const message = `${this.#where}: element ${index} of ${this.#datatype} must be an integer in its range, got ${show(value)}`;
    return new InfermuxError('INVALID_ARGUMENT', message);
  }
}

function wrongCount(where: string, shape: readonly number[], got: string): InfermuxError {
  const message = `${where}: shape ${show(shape)} needs ${elementsOf(shape)} elements, data has ${got}`;
  return new InfermuxError('INVALID_ARGUMENT', message);
}
