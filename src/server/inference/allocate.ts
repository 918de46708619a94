import type { InferenceEngine } from '../../index.js';
import type { Allocate } from '../../open-inference/raw-tensors.js';
import { SHARED_UP_TO_BYTES, sharedArray } from '../../tensors/memory/shared-arrays.js';
import { arrayTypeOf, elementsOf, newTensor, type TensorOf } from '../../tensors/tensor.js';

/** Small tensors, which the engine copies, are on memory that costs less. */
export function allocateOf(engine: InferenceEngine): Allocate {
  return (type, dims) => {
    const elements = elementsOf(dims);
    if (elements * arrayTypeOf(type).BYTES_PER_ELEMENT > SHARED_UP_TO_BYTES) return engine.allocate(type, dims);
    return newTensor(type, dims, sharedArray(type, elements)) as TensorOf<typeof type>;
  };
}
