import { types } from 'node:util';
import { InfermuxError, show } from '../common/errors.js';
import { clone } from '../common/values/clone.js';
import { bufferPool } from './buffer-pool.js';
import { arrayTypeOf, type CarriedType, elementsOf, type ReadFeeds, type TensorData } from './tensor.js';
import { lengthOf } from './typed-arrays.js';

type TypedArray = Exclude<TensorData, readonly string[]>;
type ArrayTensorType = Exclude<CarriedType, 'string'>;

/** Copies up to this size share a buffer: one for each costs the collector more than the rest of a request. */
const SHARED_UP_TO_BYTES = 1_024;
const SHARED_BYTES = 65_536;
/** Every view starts at a multiple of the largest element's size. */
const ALIGNMENT = 8;

/**
 * Puts the feeds on memory of their own, except those on the `kept` buffers.
 *
 * @returns a function to call when nobody reads the feeds any more, so that their memory is used again; undefined when
 *   they are too small for that.
 * @throws InfermuxError `INVALID_ARGUMENT` for an array whose length has changed since it was read.
 */
export function copyFeeds(feeds: ReadFeeds, kept?: ReadonlySet<ArrayBufferLike>): (() => void) | undefined {
  let taken: ArrayBuffer[] | undefined;
  for (const name in feeds) {
    const tensor = feeds[name] as { type: CarriedType; dims: readonly number[]; data: TensorData };
    const { type, dims, data } = tensor;
    if (kept !== undefined && isOn(kept, data)) continue;
    // Another thread, or a getter of the next input, can resize a buffer; bytes of other requests must not show.
    const length = lengthOf(data);
    if (length !== elementsOf(dims)) {
      throw new InfermuxError('INVALID_ARGUMENT', `input ${show(name)}: data changed its length meanwhile`);
    }
    // Strings were copied when they were read.
    if (type === 'string') continue;
    const bytes = length * arrayTypeOf(type).BYTES_PER_ELEMENT;
    if (bytes <= SHARED_UP_TO_BYTES) tensor.data = copyOntoShared(type, data as TypedArray, length, bytes);
    else {
      const buffer = bufferPool.take(bytes);
      tensor.data = copyOnto(buffer, 0, type, data as TypedArray, length);
      taken ??= [];
      taken.push(buffer);
    }
  }
  return taken && giveBackOnce(taken);
}

/** A buffer that was given back twice would go to two requests. */
function giveBackOnce(taken: ArrayBuffer[]): () => void {
  return () => {
    for (const buffer of taken.splice(0)) bufferPool.giveBack(buffer);
  };
}

/** Transfers these buffers: the caller's arrays on them are empty from now on. */
export function transferFeeds(feeds: ReadFeeds, buffers: ReadonlySet<ArrayBuffer>): void {
  if (buffers.size === 0) return;
  try {
    const tensors = Object.values(feeds) as { data: TensorData }[];
    const taken = tensors.map(({ data }) => (isOn(buffers, data) ? data : undefined));
    // All are transferred at once, because two inputs may share a buffer.
    const own = clone(taken, [...buffers]);
    for (const [index, tensor] of tensors.entries()) tensor.data = own[index] ?? tensor.data;
  } catch {
    // Some buffers cannot be transferred, for example WebAssembly memory.
    copyFeeds(feeds);
  }
}

function isOn(buffers: ReadonlySet<ArrayBufferLike>, data: TensorData): boolean {
  return ArrayBuffer.isView(data) && buffers.has(data.buffer);
}

/**
 * Returns the buffers of the feeds that can be transferred. A view on a part of a buffer is left out, because the rest
 * would be transferred too (for example with Node's pooled Buffers).
 */
export function transferableBuffers(feeds: ReadFeeds): Set<ArrayBuffer> {
  const buffers = new Set<ArrayBuffer>();
  for (const { data } of Object.values(feeds)) {
    if (!ArrayBuffer.isView(data) || data.length === 0) continue;
    const { buffer } = data;
    if (types.isArrayBuffer(buffer) && data.byteLength === buffer.byteLength) buffers.add(buffer);
  }
  return buffers;
}

let shared = new ArrayBuffer(SHARED_BYTES);
let sharedOffset = 0;

function copyOntoShared(type: ArrayTensorType, data: TypedArray, length: number, bytes: number): TensorData {
  if (sharedOffset + bytes > SHARED_BYTES) {
    shared = new ArrayBuffer(SHARED_BYTES);
    sharedOffset = 0;
  }
  const copy = copyOnto(shared, sharedOffset, type, data, length);
  sharedOffset = Math.ceil((sharedOffset + bytes) / ALIGNMENT) * ALIGNMENT;
  return copy;
}

/** Copies with a built-in class: the class of the data may be the caller's own, and misuse the buffer. */
function copyOnto(
  buffer: ArrayBuffer,
  offset: number,
  type: ArrayTensorType,
  data: TypedArray,
  length: number,
): TensorData {
  const ArrayType = arrayTypeOf(type);
  const copy = new ArrayType(buffer, offset, length) as Float32Array;
  // An empty array may be detached, and then it cannot be read.
  if (length > 0) copy.set(data as Float32Array);
  return copy;
}
