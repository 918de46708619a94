import type { Allocate } from '../../open-inference/raw-tensors.js';
import { arrayTypeOf, elementsOf } from '../../tensors/tensor.js';

/** Makes tensors in memory of their own. */
export const allocateOwn: Allocate = (type, dims) => {
  const data = new (arrayTypeOf(type))(elementsOf(dims));
  return { type, dims, data } as unknown as ReturnType<Allocate> as never;
};
