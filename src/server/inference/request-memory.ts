import type { Feeds, InferenceEngine } from '../../index.js';
import type { Allocate } from '../../open-inference/raw-tensors.js';
import { APART_FROM_BYTES, takesShared } from '../../tensors/memory/size-class.js';
import { arrayOn, arrayTypeOf, elementsOf } from '../../tensors/tensor.js';

/**
 * Returns what makes the tensors of requests. Where onnxruntime-node takes shared memory, the engine makes them, and the
 * model reads them where they were received. Otherwise a replica would have to copy large ones once more: they get memory
 * of their own, which goes to the replica. A third more pictures a second were answered so on Node 20.
 */
export function requestMemory(engine: InferenceEngine): Allocate {
  if (takesShared) return (type, dims) => engine.allocate(type, dims);
  return (type, dims) => {
    const bytes = elementsOf(dims) * arrayTypeOf(type).BYTES_PER_ELEMENT;
    if (bytes < APART_FROM_BYTES) return engine.allocate(type, dims);
    // All of it is written before it is read.
    const { buffer } = Buffer.allocUnsafeSlow(bytes);
    return { type, dims, data: arrayOn(type, buffer, 0, elementsOf(dims)) } as unknown as ReturnType<Allocate> as never;
  };
}

/** Whether the arrays are to go to the replica themselves. They are nobody else's. */
export function goesItself(feeds: Feeds): boolean {
  if (takesShared) return false;
  for (const name in feeds) {
    const data = feeds[name]?.data;
    if (ArrayBuffer.isView(data) && data.byteLength >= APART_FROM_BYTES) return true;
  }
  return false;
}
