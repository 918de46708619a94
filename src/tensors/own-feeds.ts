import { InfermuxError, show } from '../common/errors.js';
import { bufferPool } from './buffer-pool.js';
import { arrayTypeOf, elementsOf, type TensorData, type TensorFeeds, type TensorType } from './tensor.js';

type TypedArray = Exclude<TensorData, readonly string[]>;
type ArrayTensorType = Exclude<TensorType, 'string'>;

/** Copies up to so many bytes share a buffer: one for each costs the garbage collector more than all else of a request. */
const SHARED_UP_TO_BYTES = 1_024;
const SHARED_BYTES = 65_536;
/** Every view starts at a multiple of the largest element. */
const ALIGNMENT = 8;

/**
 * Puts the feeds on memory of their own, but for those on the `kept` buffers.
 *
 * @returns to be called when nobody reads the feeds any more, so that their memory is used again; undefined where it is not
 *   worth it.
 * @throws InfermuxError `INVALID_ARGUMENT` for an array that has changed its length since it was read.
 */
export function copyFeeds(feeds: TensorFeeds, kept?: ReadonlySet<ArrayBufferLike>): (() => void) | undefined {
  let taken: ArrayBuffer[] | undefined;
  for (const name in feeds) {
    const tensor = feeds[name] as { type: TensorType; dims: readonly number[]; data: TensorData };
    const { type, dims, data } = tensor;
    if (kept !== undefined && isOn(kept, data)) continue;
    // A buffer can be resized by another thread, or by a getter of the next input; the memory of others must not show.
    if (data.length !== elementsOf(dims)) {
      throw new InfermuxError('INVALID_ARGUMENT', `input ${show(name)}: data changed its length meanwhile`);
    }
    if (type === 'string') tensor.data = [...(data as readonly string[])];
    else if ((data as TypedArray).byteLength <= SHARED_UP_TO_BYTES) tensor.data = copyOntoShared(type, data);
    else {
      const buffer = bufferPool.take((data as TypedArray).byteLength);
      tensor.data = copyOnto(buffer, 0, type, data);
      taken ??= [];
      taken.push(buffer);
    }
  }
  return taken && giveBackOnce(taken);
}

/** A buffer that was given back twice would be two requests'. */
function giveBackOnce(taken: ArrayBuffer[]): () => void {
  return () => {
    for (const buffer of taken.splice(0)) bufferPool.giveBack(buffer);
  };
}

/** Takes these buffers over: the caller's arrays on them are empty from now on. */
export function transferFeeds(feeds: TensorFeeds, buffers: ReadonlySet<ArrayBuffer>): void {
  if (buffers.size === 0) return;
  try {
    const tensors = Object.values(feeds) as { data: TensorData }[];
    const taken = tensors.map(({ data }) => (isOn(buffers, data) ? data : undefined));
    // All at once, because two inputs may share a buffer.
    const own = structuredClone(taken, { transfer: [...buffers] });
    for (const [index, tensor] of tensors.entries()) tensor.data = own[index] ?? tensor.data;
  } catch {
    // WebAssembly memory, say, belongs to its owner for good.
    copyFeeds(feeds);
  }
}

function isOn(buffers: ReadonlySet<ArrayBufferLike>, data: TensorData): boolean {
  return ArrayBuffer.isView(data) && buffers.has(data.buffer);
}

/**
 * The buffers of the feeds that can be taken over. A view on a part (of Node's pooled Buffers, say) cannot be, without
 * taking the rest along.
 */
export function transferableBuffers(feeds: TensorFeeds): Set<ArrayBuffer> {
  const buffers = new Set<ArrayBuffer>();
  for (const { data } of Object.values(feeds)) {
    if (!ArrayBuffer.isView(data) || data.length === 0) continue;
    const { buffer } = data;
    if (buffer instanceof ArrayBuffer && data.byteLength === buffer.byteLength) buffers.add(buffer);
  }
  return buffers;
}

let shared = new ArrayBuffer(SHARED_BYTES);
let sharedOffset = 0;

function copyOntoShared(type: ArrayTensorType, data: TensorData): TensorData {
  const bytes = (data as TypedArray).byteLength;
  if (sharedOffset + bytes > SHARED_BYTES) {
    shared = new ArrayBuffer(SHARED_BYTES);
    sharedOffset = 0;
  }
  const copy = copyOnto(shared, sharedOffset, type, data);
  sharedOffset = Math.ceil((sharedOffset + bytes) / ALIGNMENT) * ALIGNMENT;
  return copy;
}

/** Not with the class of the data, which may be one of the caller's and do as it likes with the buffer. */
function copyOnto(buffer: ArrayBuffer, offset: number, type: ArrayTensorType, data: TensorData): TensorData {
  const ArrayType = arrayTypeOf(type);
  const copy = new ArrayType(buffer, offset, data.length) as Float32Array;
  // An empty array may be one that was detached, which can no longer be read.
  if (data.length > 0) copy.set(data as Float32Array);
  return copy;
}
