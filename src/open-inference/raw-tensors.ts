import { endianness } from 'node:os';
import { InfermuxError, show } from '../common/errors.js';
import type { NumericType } from '../tensors/memory/allocated-tensors.js';
import { SHARED_UP_TO_BYTES, sharedArray } from '../tensors/memory/shared-arrays.js';
import { APART_FROM_BYTES } from '../tensors/memory/size-class.js';
import {
  arrayOn,
  arrayTypeOf,
  elementsOf,
  newTensor,
  type Tensor,
  type TensorData,
  type TensorOf,
  type TensorType,
} from '../tensors/tensor.js';
import { readByteStrings, writeByteStrings } from './byte-strings.js';
import { bytesOfElement, type Datatype, typeOf } from './datatypes.js';
import { doAtOnce } from './json/steps.js';

/** Returns a tensor whose elements are to be written: the engine's `allocate`, or a typed array. */
export type Allocate = <T extends Exclude<TensorType, 'string'>>(type: T, dims: readonly number[]) => TensorOf<T>;

/** One tensor of a request or an answer, before its data are known. */
export interface TensorHead {
  readonly name: string;
  readonly datatype: Datatype;
  readonly shape: readonly number[];
}

/** The bytes of a tensor's elements as they are in memory, which is little-endian wherever onnxruntime-node runs. */
export function bytesOfData(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}

/** @throws Error on a machine whose numbers have their bytes the other way round than the protocol's. */
export function checkByteOrder(): void {
  if (endianness() !== 'LE') throw new Error('the Open Inference Protocol needs a little-endian machine');
}

/** @throws InfermuxError `INVALID_ARGUMENT` when a tensor of this head cannot have so many bytes. */
export function checkRawSize(where: string, { datatype, shape }: TensorHead, bytes: number): void {
  const size = bytesOfElement(datatype);
  const expected = size === undefined ? undefined : size * elementsOf(shape);
  if (expected === undefined || expected === bytes) return;
  const message = `${where}: ${datatype} of shape ${show(shape)} takes ${expected} bytes, got ${bytes}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

/**
 * Reads a tensor from its binary form. The bytes are copied.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for another number of bytes or elements than the shape needs.
 */
export function tensorFromRaw(where: string, head: TensorHead, bytes: Uint8Array, allocate: Allocate): Tensor {
  checkRawSize(where, head, bytes.byteLength);
  const { datatype, shape } = head;
  const type = typeOf(datatype);
  if (type === 'string') {
    return { type, dims: shape, data: doAtOnce(readByteStrings(where, bytes, elementsOf(shape))) };
  }
  if (type === 'bool') checkBooleans(where, bytes);
  const tensor = allocate(type, shape);
  copyInto(bytesOfData(tensor.data), bytes, 0);
  return tensor as Tensor;
}

/**
 * {@link tensorFromRaw} for the engine, which copies a tensor of few bytes whatever memory it is on: so it may be a view on
 * the bytes.
 */
export function feedFromRaw(where: string, head: TensorHead, bytes: Uint8Array, allocate: Allocate): Tensor {
  const type = typeOf(head.datatype);
  if (type === 'string' || bytes.byteLength >= APART_FROM_BYTES) return tensorFromRaw(where, head, bytes, allocate);
  checkRawSize(where, head, bytes.byteLength);
  if (type === 'bool') checkBooleans(where, bytes);
  return newTensor(type, head.shape, arrayOfBytes(type, bytes));
}

function arrayOfBytes(type: NumericType, bytes: Uint8Array): TensorData {
  const { buffer, byteOffset, byteLength } = bytes;
  const size = arrayTypeOf(type).BYTES_PER_ELEMENT;
  const length = byteLength / size;
  if (byteOffset % size === 0) return arrayOn(type, buffer, byteOffset, length);
  if (byteLength > SHARED_UP_TO_BYTES) {
    return arrayOn(type, buffer.slice(byteOffset, byteOffset + byteLength), 0, length);
  }
  const array = sharedArray(type, length);
  bytesOfData(array as Float32Array).set(bytes);
  return array;
}

/**
 * Copies bytes to memory that may be shared. `set` writes shared memory with atomic instructions, which takes two to three
 * times as long; `fill` does not, and fills a space of the length of its value with just that.
 */
export function copyInto(target: Uint8Array, bytes: Uint8Array, at: number): void {
  if (bytes.length === 0) return;
  const own = Buffer.from(target.buffer, target.byteOffset, target.byteLength);
  own.fill(bytes, at, at + bytes.length);
}

/** @throws InfermuxError `INVALID_ARGUMENT` for a byte that is neither 0 nor 1. */
export function checkBooleans(where: string, bytes: Uint8Array): void {
  const index = bytes.findIndex((byte) => byte > 1);
  if (index === -1) return;
  throw new InfermuxError(
    'INVALID_ARGUMENT',
    `${where}: a byte of BOOL must be 0 or 1, got ${bytes[index]} at ${index}`,
  );
}

/** Returns the binary form of a tensor's data: a view where that is possible. */
export function rawFromTensor({ type, data }: Tensor): Uint8Array {
  return type === 'string' ? writeByteStrings(data) : bytesOfData(data);
}
