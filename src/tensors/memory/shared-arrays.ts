import { arrayOn, arrayTypeOf, type CarriedType, type TensorData } from '../tensor.js';

/** Arrays up to this size share a buffer: one for each costs the collector more than the rest of a request. */
export const SHARED_UP_TO_BYTES = 1_024;
const SHARED_BYTES = 65_536;
/** Every array starts at a multiple of the largest element's size. */
const ALIGNMENT = 8;

let shared = new ArrayBuffer(SHARED_BYTES);
let offset = 0;

/** Returns an array of zeros on a buffer that it shares with others, for at most {@link SHARED_UP_TO_BYTES}. */
export function sharedArray(type: Exclude<CarriedType, 'string'>, length: number): TensorData {
  const bytes = length * arrayTypeOf(type).BYTES_PER_ELEMENT;
  if (offset + bytes > SHARED_BYTES) {
    shared = new ArrayBuffer(SHARED_BYTES);
    offset = 0;
  }
  const array = arrayOn(type, shared, offset, length);
  offset = Math.ceil((offset + bytes) / ALIGNMENT) * ALIGNMENT;
  return array;
}
