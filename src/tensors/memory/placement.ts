import { arrayTypeOf, elementsOf, type ReadFeeds, type Tensor, type UntypedTensor } from '../tensor.js';
import type { Slab } from './slabs.js';

type AnyTensor = Tensor | UntypedTensor;

/** Where a tensor lies that goes to its replica by itself: in a slab, or in a buffer that the caller has given away. */
export type Placement = Slab | 'given';

interface Placed {
  apart?: Placement;
}

export function place(tensor: object, placement: Placement): void {
  (tensor as Placed).apart = placement;
}

/** Returns undefined for a tensor that is copied into a message with others. */
export function placementOf(tensor: AnyTensor): Placement | undefined {
  return (tensor as Placed).apart;
}

/** Returns the bytes of the tensors that go to a replica by themselves, whether they are still here or there. */
export function apartBytesIn(feeds: ReadFeeds): number {
  let bytes = 0;
  for (const name in feeds) {
    const tensor = feeds[name] as AnyTensor;
    if (placementOf(tensor) !== undefined) bytes += bytesOf(tensor);
  }
  return bytes;
}

function bytesOf({ type, dims }: AnyTensor): number {
  return type === 'string' ? 0 : elementsOf(dims) * arrayTypeOf(type).BYTES_PER_ELEMENT;
}

/** Whether the tensor's array was transferred to a replica, and is empty here. */
export function isSpent({ dims, data }: { dims: readonly number[]; data: { readonly length: number } }): boolean {
  return data.length === 0 && elementsOf(dims) > 0;
}
