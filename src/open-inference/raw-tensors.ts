import { endianness } from 'node:os';
import { InfermuxError, show } from '../common/errors.js';
import { elementsOf, type Tensor, type TensorOf, type TensorType } from '../tensors/tensor.js';
import { readByteStrings, writeByteStrings } from './byte-strings.js';
import { bytesOfElement, type Datatype, typeOf } from './datatypes.js';

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
  if (type === 'string') return { type, dims: shape, data: readByteStrings(where, bytes, elementsOf(shape)) };
  const tensor = allocate(type, shape);
  bytesOfData(tensor.data).set(bytes);
  if (type === 'bool') checkBooleans(where, bytes);
  return tensor as Tensor;
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
