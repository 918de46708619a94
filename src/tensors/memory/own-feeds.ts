import { types } from 'node:util';
import { InfermuxError, show } from '../../common/errors.js';
import { clone } from '../../common/values/clone.js';
import { arrayOn, arrayTypeOf, type CarriedType, elementsOf, type ReadFeeds, type TensorData } from '../tensor.js';
import { lengthOf } from '../typed-arrays.js';
import { feedLent, type Lent, lentSlabOf } from './allocated-tensors.js';
import { bufferPool } from './buffer-pool.js';
import { apartBytesIn, isSpent, place } from './placement.js';
import { SHARED_UP_TO_BYTES, sharedArray } from './shared-arrays.js';
import { APART_FROM_BYTES, SLAB_FROM_BYTES } from './size-class.js';
import type { Slab, Slabs } from './slabs.js';

type TypedArray = Exclude<TensorData, readonly string[]>;
type ArrayTensorType = Exclude<CarriedType, 'string'>;

/** A tensor whose data this module replaces. */
interface OwnTensor {
  readonly type: CarriedType;
  readonly dims: readonly number[];
  data: TensorData;
}

export interface OwningSettings {
  /** Memory for large tensors; undefined puts them in buffers of this thread. */
  readonly slabs?: Slabs | undefined;
  /** Whether the caller gives its arrays away. */
  readonly isTransfer?: boolean;
  /** Whether tensors that the engine allocated are used as they are, instead of copied. */
  readonly usesAllocated?: boolean;
}

/** What was done to put feeds on memory that the caller cannot change. */
export interface OwnedFeeds {
  /** Call it once, when nobody reads the feeds any more, so that their memory is used again; undefined for small ones. */
  readonly release: (() => void) | undefined;
  /** Takes over what is still the caller's. Call it once, when the request is accepted; undefined if there is nothing. */
  readonly takeOver: (() => void) | undefined;
  /** Bytes of the tensors that go to a replica by themselves. */
  readonly apartBytes: number;
}

const NOTHING_MORE: OwnedFeeds = Object.freeze({ release: undefined, takeOver: undefined, apartBytes: 0 });

/**
 * Puts the feeds on memory of their own. Tensors that can be taken over stay where they are until `takeOver`.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for an array whose length has changed since it was read, or an allocated
 *   tensor that was fed before.
 * @throws RangeError when there is no memory.
 */
export function ownFeeds(feeds: ReadFeeds, settings: OwningSettings = {}): OwnedFeeds {
  let memory: OwnedMemory | undefined;
  try {
    for (const name in feeds) memory = own(name, feeds[name] as OwnTensor, settings, memory);
  } catch (error) {
    memory?.release();
    throw error;
  }
  return memory === undefined ? NOTHING_MORE : memory.toOwnedFeeds(feeds);
}

/** @returns the memory of the request, which is made when the first tensor needs it. */
function own(
  name: string,
  tensor: OwnTensor,
  { slabs, isTransfer, usesAllocated }: OwningSettings,
  before: OwnedMemory | undefined,
): OwnedMemory | undefined {
  const { type, dims, data } = tensor;
  // Another thread, or a getter of the next input, can resize a buffer; bytes of other requests must not show.
  const length = lengthOf(data);
  if (length !== elementsOf(dims)) {
    throw new InfermuxError('INVALID_ARGUMENT', `input ${show(name)}: data changed its length meanwhile`);
  }
  // Strings were copied when they were read.
  if (type === 'string') return before;
  const array = data as TypedArray;
  const bytes = length * arrayTypeOf(type).BYTES_PER_ELEMENT;
  const isGiven = isTransfer === true && isAlone(array, bytes);
  if (!isGiven && bytes <= SHARED_UP_TO_BYTES) {
    tensor.data = copyTo(sharedArray(type, length), array, length);
    return before;
  }
  const memory = before ?? new OwnedMemory();
  const lent = isGiven ? undefined : lentSlabOf(name, array);
  if (isGiven) {
    memory.buffers.add(array.buffer as ArrayBuffer);
    if (bytes >= APART_FROM_BYTES) place(tensor, 'given');
  } else if (lent !== undefined && usesAllocated === true) {
    memory.holdLent(lent);
    tensor.data = arrayOn(type, lent.slab.memory, 0, length);
    place(tensor, lent.slab);
  } else if (slabs !== undefined && bytes >= SLAB_FROM_BYTES) {
    const slab = slabs.take(bytes);
    memory.hold(slab);
    tensor.data = copyOnto(slab.memory, 0, type, array, length);
    place(tensor, slab);
  } else {
    tensor.data = copyOnto(memory.takeBuffer(bytes), 0, type, array, length);
  }
  return memory;
}

/**
 * Whether the array can be transferred. A view on a part of a buffer cannot, because the rest would be transferred too
 * (for example with Node's pooled Buffers).
 */
function isAlone({ buffer }: TypedArray, bytes: number): boolean {
  return bytes > 0 && types.isArrayBuffer(buffer) && bytes === buffer.byteLength;
}

/** The memory of one request's feeds. It is given back once: otherwise it would go to two requests. */
class OwnedMemory {
  /** The caller's, to be transferred. */
  readonly buffers = new Set<ArrayBuffer>();
  readonly #taken: ArrayBuffer[] = [];
  readonly #held: Slab[] = [];
  readonly #lent = new Set<Lent>();

  takeBuffer(bytes: number): ArrayBuffer {
    const buffer = bufferPool.take(bytes);
    this.#taken.push(buffer);
    return buffer;
  }

  hold(slab: Slab): void {
    slab.hold();
    this.#held.push(slab);
  }

  holdLent(lent: Lent): void {
    this.#lent.add(lent);
    this.hold(lent.slab);
  }

  release(): void {
    for (const buffer of this.#taken.splice(0)) bufferPool.giveBack(buffer);
    for (const slab of this.#held.splice(0)) slab.release();
  }

  toOwnedFeeds(feeds: ReadFeeds): OwnedFeeds {
    const { buffers } = this;
    const isHeld = this.#taken.length + this.#held.length > 0;
    const isCallers = buffers.size + this.#lent.size > 0;
    return {
      apartBytes: apartBytesIn(feeds),
      release: isHeld ? () => this.release() : undefined,
      takeOver: isCallers
        ? () => {
            for (const lent of this.#lent) feedLent(lent);
            transferFeeds(feeds, buffers);
          }
        : undefined,
    };
  }
}

/** Transfers these buffers: the caller's arrays on them are empty from now on. */
function transferFeeds(feeds: ReadFeeds, buffers: ReadonlySet<ArrayBuffer>): void {
  // A replica may have been given the request, and with it the buffers.
  const tensors = (Object.values(feeds) as OwnTensor[]).filter(
    (tensor) => isOn(buffers, tensor.data) && !isSpent(tensor),
  );
  if (tensors.length === 0) return;
  const left = tensors.map(({ data }) => data as TypedArray);
  try {
    // All are transferred at once, because two inputs may share a buffer.
    const moved = clone(left, [...new Set(left.map(({ buffer }) => buffer as ArrayBuffer))]);
    for (const [index, tensor] of tensors.entries()) tensor.data = moved[index] as TensorData;
  } catch {
    // Some buffers cannot be transferred, for example WebAssembly memory.
    for (const tensor of tensors) {
      const { type, data } = tensor as { type: ArrayTensorType; data: TypedArray };
      tensor.data = copyOnto(new ArrayBuffer(data.byteLength), 0, type, data, data.length);
    }
  }
}

function isOn(buffers: ReadonlySet<ArrayBufferLike>, data: TensorData): boolean {
  return ArrayBuffer.isView(data) && buffers.has(data.buffer);
}

function copyOnto(
  buffer: ArrayBufferLike,
  offset: number,
  type: ArrayTensorType,
  data: TypedArray,
  length: number,
): TensorData {
  return copyTo(arrayOn(type, buffer, offset, length), data, length);
}

/** Copies to an array of a built-in class: the class of the data may be the caller's own, and misuse the buffer. */
function copyTo(copy: TensorData, data: TypedArray, length: number): TensorData {
  // An empty array may be detached, and then it cannot be read.
  if (length > 0) (copy as Float32Array).set(data as Float32Array);
  return copy;
}
