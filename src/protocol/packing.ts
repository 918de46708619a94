import type { BufferPool } from '../tensors/memory/buffer-pool.js';
import { arrayTypeOf, type CarriedType, type TensorData } from '../tensors/tensor.js';

/** Tensors of several requests, end to end; structured clone carries it, and its buffer can be transferred. */
export interface PackedTensor {
  readonly name: string;
  readonly type: CarriedType;
  readonly dims: readonly number[];
  readonly data: TensorData;
}

/** A tensor of several requests, whose elements lie in an array for each request. */
export interface PartedTensor {
  readonly name: string;
  readonly type: CarriedType;
  readonly dims: readonly number[];
  readonly parts: readonly TensorData[];
  /** Indices of the parts that are transferred with the message. */
  readonly given: readonly number[];
}

/** Returns the arrays that are transferred with the groups by themselves, in their order. */
export function givenIn(groups: readonly { inputs: readonly (PackedTensor | PartedTensor)[] }[]): TensorData[] {
  const given: TensorData[] = [];
  for (const { inputs } of groups) {
    for (const input of inputs) {
      if ('parts' in input) for (const index of input.given) given.push(input.parts[index] as TensorData);
    }
  }
  return given;
}

/** Returns all typed arrays of the groups. */
export function arraysIn(groups: readonly { inputs: readonly (PackedTensor | PartedTensor)[] }[]): TensorData[] {
  return groups
    .flatMap(({ inputs }) => inputs.flatMap((input) => ('parts' in input ? input.parts : [input.data])))
    .filter((data) => ArrayBuffer.isView(data));
}

/** Returns the buffers of the arrays, each once. */
export function buffersOf(arrays: readonly TensorData[]): ArrayBuffer[] {
  if (arrays.length === 0) return [];
  return [...new Set(arrays.map((data) => (data as Float32Array).buffer as ArrayBuffer))];
}

/** Every view starts at a multiple of the largest element. */
export const ALIGNMENT = 8;

/** Transferring a buffer costs more than copying so many bytes twice, into the message and out of it. */
const COPIED_BELOW_BYTES = 16_384;

/**
 * Handing a buffer back, to be filled again, costs less than creating one of so many bytes. The calling thread takes
 * buffers for such messages from its pool, and the replica hands back buffers of this size.
 */
const RETURNED_FROM_BYTES = 65_536;

/** Returns the buffers to transfer with a message; none if it is cheaper to copy them. */
export function transferListOf(buffers: readonly ArrayBuffer[]): ArrayBuffer[] {
  let bytes = 0;
  for (const { byteLength } of buffers) bytes += byteLength;
  return bytes < COPIED_BELOW_BYTES ? [] : [...new Set(buffers)];
}

/**
 * Returns the buffer that the groups of a message came in, if it should go back: then nobody may read the inputs any
 * more. Outputs may be read: onnxruntime-node copies them, even an input that is an output, too.
 */
export function bufferToReturn(
  groups: readonly { inputs: readonly (PackedTensor | PartedTensor)[] }[],
): ArrayBuffer | undefined {
  for (const { inputs } of groups) {
    for (const input of inputs) {
      if ('parts' in input) continue;
      const { data } = input;
      if (ArrayBuffer.isView(data) && data.buffer.byteLength >= RETURNED_FROM_BYTES) return data.buffer as ArrayBuffer;
    }
  }
  return undefined;
}

/** One buffer for all tensors of one message, so that one buffer is transferred. */
export class PackingBuffer {
  readonly #buffer: ArrayBuffer;
  #offset = 0;

  /**
   * @param bytes the sum of {@link packedBytes} of the parts to join.
   * @param pool the source of the buffer, if the other side will hand it back.
   */
  constructor(bytes: number, pool?: BufferPool) {
    this.#buffer = pool !== undefined && bytes >= RETURNED_FROM_BYTES ? pool.take(bytes) : new ArrayBuffer(bytes);
  }

  /** The transfer list of the message. */
  get transfer(): ArrayBuffer[] {
    return transferListOf([this.#buffer]);
  }

  /** Returns the elements of all parts, in their order. All parts have the given type. */
  join(type: CarriedType, parts: readonly TensorData[]): TensorData {
    if (type === 'string') return (parts as readonly (readonly string[])[]).flat();
    let length = 0;
    for (const part of parts) length += part.length;
    const ArrayType = arrayTypeOf(type);
    // All parts are of one class, so the cast to any one of them is safe.
    const joined = new ArrayType(this.#buffer, this.#offset, length) as Float32Array;
    this.#offset += aligned(joined.byteLength);
    fillEndToEnd(joined, parts);
    return joined;
  }
}

/** Copies the parts into an array of their class and of their length together. */
export function fillEndToEnd(joined: Float32Array, parts: readonly TensorData[]): void {
  let at = 0;
  for (const part of parts as readonly Float32Array[]) {
    joined.set(part, at);
    at += part.length;
  }
}

/** Returns the bytes that so many elements take in a {@link PackingBuffer}. */
export function packedBytes(type: CarriedType, elements: number): number {
  return type === 'string' ? 0 : aligned(elements * arrayTypeOf(type).BYTES_PER_ELEMENT);
}

function aligned(bytes: number): number {
  return Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
}

/** Returns the elements from `start` to `end` in memory of their own; the array itself if it is alone in its buffer. */
export function ownSlice(data: TensorData, start: number, end: number): TensorData {
  // Several requests may ask for the whole of an empty array: each gets one of its own.
  const isWhole = start === 0 && end === data.length && end > 0;
  if (isWhole && ArrayBuffer.isView(data) && data.byteLength === data.buffer.byteLength) return data;
  return data.slice(start, end) as TensorData;
}

/** Returns the elements from `start` to `end`; a typed array shares the memory of the whole. */
export function viewSlice(data: TensorData, start: number, end: number): TensorData {
  return (ArrayBuffer.isView(data) ? data.subarray(start, end) : data.slice(start, end)) as TensorData;
}
