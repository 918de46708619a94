import { types } from 'node:util';
import { InfermuxError, show } from '../../common/errors.js';
import {
  arrayOn,
  arrayTypeOf,
  elementsOf,
  isDim,
  isTensorType,
  MOST_DIMS,
  type TensorData,
  type TensorOf,
  type TensorType,
} from '../tensor.js';
import { APART_FROM_BYTES } from './size-class.js';
import type { Slab, Slabs } from './slabs.js';

export type NumericType = Exclude<TensorType, 'string'>;

/** A slab that a caller has, and the bytes of the tensor in it. */
interface Lent {
  readonly slab: Slab;
  readonly bytes: number;
  isFed: boolean;
}

/**
 * What callers have, by the buffer that each was given. Each time a slab is lent it gets another buffer object on the
 * same memory, so that an array of an earlier time is not taken for one of this time.
 */
const lentSlabs = new WeakMap<ArrayBufferLike, Lent>();

/** Returns a tensor in a slab, or in memory of its own when it is small. Its elements are not cleared. */
export function allocateTensor<T extends NumericType>(slabs: Slabs, type: T, dims: readonly number[]): TensorOf<T> {
  if (!isTensorType(type) || (type as TensorType) === 'string') {
    throw invalid(`type must be the type of a tensor of numbers, for example 'float32', got ${show(type)}`);
  }
  if (!Array.isArray(dims) || dims.length > MOST_DIMS || !dims.every(isDim)) {
    throw invalid(`dims must be at most ${MOST_DIMS} integers from 0 on, got ${show(dims)}`);
  }
  const ArrayType = arrayTypeOf(type);
  const elements = elementsOf(dims);
  const bytes = elements * ArrayType.BYTES_PER_ELEMENT;
  const own = Object.freeze([...dims]);
  try {
    const data = bytes < APART_FROM_BYTES ? new ArrayType(elements) : arrayOn(type, lend(slabs, bytes), 0, elements);
    return { type, dims: own, data } as unknown as TensorOf<T>;
  } catch (cause) {
    throw invalid(`dims ${show(own)} of ${type} take ${bytes} bytes, more than there is memory for`, cause);
  }
}

function lend(slabs: Slabs, bytes: number): SharedArrayBuffer {
  const slab = slabs.take(bytes, true);
  const memory = structuredClone(slab.memory);
  lentSlabs.set(memory, { slab, bytes, isFed: false });
  return memory;
}

/**
 * Returns the slab in which all of an allocated tensor lies; undefined for other arrays, also for a part of such a
 * tensor.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` when the tensor was fed before: its memory may be another request's.
 */
export function lentSlabOf(name: string, data: Exclude<TensorData, readonly string[]>): Lent | undefined {
  if (!types.isSharedArrayBuffer(data.buffer)) return undefined;
  const lent = lentSlabs.get(data.buffer);
  if (lent === undefined) return undefined;
  if (lent.isFed) {
    const message = `input ${show(name)}: the tensor was allocated by the engine and has been fed, which can be done once: allocate another one`;
    throw invalid(message);
  }
  return data.byteOffset === 0 && data.byteLength === lent.bytes ? lent : undefined;
}

/** The request with the tensor is accepted: the memory is the engine's from now on. */
export function feedLent(lent: Lent): void {
  lent.isFed = true;
  lent.slab.isLent = false;
}

export type { Lent };

function invalid(message: string, cause?: unknown): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message, { cause });
}
