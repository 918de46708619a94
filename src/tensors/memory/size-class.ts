/** Node's interface for native code refuses arrays on shared memory before this version. */
const TAKES_SHARED_FROM = 22;

/** Whether onnxruntime-node takes arrays on shared memory as they are. Otherwise the replica copies them. */
export const takesShared: boolean = Number.parseInt(process.versions.node, 10) >= TAKES_SHARED_FROM;

/**
 * Copies of so many bytes lie in a slab. Smaller ones are copied once more, into a message with those of other requests:
 * up to about this size that is faster, because the replica gets them joined, in memory that a core has just written.
 * Measured from 24 KiB to 768 KiB, with a model that takes no longer than reading its input.
 */
export const SLAB_FROM_BYTES: number = takesShared ? 524_288 : 1_048_576;

/** What the caller gives away, or fills in place, goes to the replica as it is from so many bytes on. */
export const APART_FROM_BYTES = 65_536;

/** Sizes between two powers of two: memory is at most a quarter larger than what is in it. */
const STEPS = 4;

/** Returns the least size that has room for so many bytes: a power of two, or a whole number of quarters beyond one. */
export function sizeClassOf(bytes: number): number {
  const below = 2 ** Math.floor(Math.log2(Math.max(bytes, 1)));
  const step = Math.max(1, below / STEPS);
  return Math.ceil(bytes / step) * step;
}
