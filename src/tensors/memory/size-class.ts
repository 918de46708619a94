import { arrayTypeOf, elementsOf, type ReadFeeds, type Tensor, type UntypedTensor } from '../tensor.js';

/**
 * A tensor of so many bytes goes through memory that both sides see, or is transferred. Below it, copies into one
 * message with those of other requests take less time than the message about the memory.
 */
export const LARGE_FROM_BYTES = 65_536;

/** Sizes between two powers of two: memory is at most a quarter larger than what is in it. */
const STEPS = 4;

/** Returns the least size that has room for so many bytes: a power of two, or a whole number of quarters beyond one. */
export function sizeClassOf(bytes: number): number {
  const below = 2 ** Math.floor(Math.log2(Math.max(bytes, 1)));
  const step = Math.max(1, below / STEPS);
  return Math.ceil(bytes / step) * step;
}

/** Returns the bytes of the large tensors, whether they are still here or were transferred. */
export function largeBytesIn(feeds: ReadFeeds): number {
  let bytes = 0;
  for (const name in feeds) {
    const { type, dims } = feeds[name] as Tensor | UntypedTensor;
    if (type === 'string') continue;
    const own = elementsOf(dims) * arrayTypeOf(type).BYTES_PER_ELEMENT;
    if (own >= LARGE_FROM_BYTES) bytes += own;
  }
  return bytes;
}
