import { freeBuffers } from '../../common/values/free-buffers.js';
import { fillEndToEnd } from '../../protocol/packing.js';
import { sizeClassOf } from '../../tensors/memory/size-class.js';
import { arrayTypeOf, type CarriedType, type TensorData } from '../../tensors/tensor.js';

/** Buffers that were not needed for so many copies are freed. A thread waits without timers, so it counts. */
const KEPT_FOR_COPIES = 16;

interface Kept {
  readonly buffer: ArrayBuffer;
  readonly usedAt: number;
}

/** Free buffers of this thread. One call runs at a time, so these are about as large as the inputs of recent calls. */
let free: Kept[] = [];
let copies = 0;

/** Memory of this thread for the inputs of one call of onnxruntime. It is used again for later calls. */
export class CallMemory {
  #taken: ArrayBuffer[] | undefined;

  /** Returns a copy of arrays of one type, end to end, which is good until `release`. */
  copy(type: CarriedType, parts: readonly TensorData[]): TensorData {
    const ArrayType = arrayTypeOf(type as Exclude<CarriedType, 'string'>);
    let length = 0;
    for (const part of parts) length += part.length;
    const buffer = take(length * ArrayType.BYTES_PER_ELEMENT);
    this.#taken ??= [];
    this.#taken.push(buffer);
    const joined = new ArrayType(buffer, 0, length) as Float32Array;
    fillEndToEnd(joined, parts);
    return joined;
  }

  /** Call it once, after the call. */
  release(): void {
    if (this.#taken === undefined) return;
    for (const buffer of this.#taken) free.push({ buffer, usedAt: copies });
    const old = free.filter(({ usedAt }) => copies - usedAt >= KEPT_FOR_COPIES);
    if (old.length === 0) return;
    free = free.filter((kept) => !old.includes(kept));
    freeBuffers(old.map(({ buffer }) => buffer));
  }
}

function take(bytes: number): ArrayBuffer {
  copies += 1;
  const size = sizeClassOf(bytes);
  const index = free.findIndex(({ buffer }) => buffer.byteLength === size);
  return free.splice(index, index === -1 ? 0 : 1)[0]?.buffer ?? new ArrayBuffer(size);
}
