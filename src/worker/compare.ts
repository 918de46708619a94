import { show } from '../errors.js';
import type { Outputs, Tensor, TensorData, TensorFeeds } from '../tensor.js';

/**
 * Sums in another order differ in their last bits, relative to the numbers that were summed: what is near zero beside large
 * numbers may differ by more than its own last bits.
 */
const TOLERANCE = { absolute: 1e-6, relative: 1e-4 };
/** float16 has 11 significant bits. */
const FLOAT16_TOLERANCE = { absolute: 1e-3, relative: 1e-2 };
/** Of quantised numbers, where a sum is at the border between two. */
const INT8_TOLERANCE = 1;

/** Whether two requests hold the same elements in the same shape. */
export function areSameFeeds(left: TensorFeeds, right: TensorFeeds): boolean {
  return Object.entries(left).every(([name, { dims, data }]) => {
    const other = right[name];
    return (
      other !== undefined &&
      dims.length === other.dims.length &&
      dims.every((size, axis) => size === other.dims[axis]) &&
      areSameData(data, other.data)
    );
  });
}

function areSameData(left: TensorData, right: TensorData): boolean {
  if (ArrayBuffer.isView(left) && ArrayBuffer.isView(right)) return bytesOf(left).equals(bytesOf(right));
  return left.length === right.length && left.every((element: unknown, index: number) => element === right[index]);
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer {
  return Buffer.from(buffer as ArrayBuffer, byteOffset, byteLength);
}

/** What differs between outputs of the same request; undefined when they agree, floating-point numbers within tolerance. */
export function whyDifferent(outputs: Outputs, expected: Outputs): string | undefined {
  for (const [name, tensor] of Object.entries(expected)) {
    const reason = whyTensorDifferent(outputs[name], tensor);
    if (reason !== undefined) return `output ${show(name)} ${reason}`;
  }
  return undefined;
}

function whyTensorDifferent(tensor: Tensor | undefined, expected: Tensor): string | undefined {
  if (tensor === undefined) return 'is missing';
  const dims = `[${tensor.dims}]`;
  if (dims !== `[${expected.dims}]`) return `has dims ${dims} instead of [${expected.dims}]`;
  const agree = agreementOf(expected);
  for (let index = 0; index < expected.data.length; index += 1) {
    const one = tensor.data[index];
    const other = expected.data[index];
    if (!agree(one, other)) return `is ${String(one)} instead of ${String(other)} at element ${index}`;
  }
  return undefined;
}

function agreementOf({ type, data }: Tensor): (one: unknown, other: unknown) => boolean {
  switch (type) {
    case 'float32':
    case 'float64': {
      const allowed = allowedDifference(data as Float32Array, TOLERANCE);
      return (one, other) => areClose(one as number, other as number, allowed);
    }
    case 'float16': {
      const allowed = allowedDifference(Array.from(data as Uint16Array, fromFloat16), FLOAT16_TOLERANCE);
      return (one, other) => areClose(fromFloat16(one as number), fromFloat16(other as number), allowed);
    }
    case 'int8':
    case 'uint8':
      return (one, other) => areClose(one as number, other as number, INT8_TOLERANCE);
    default:
      return (one, other) => one === other;
  }
}

function allowedDifference(numbers: ArrayLike<number>, { absolute, relative }: typeof TOLERANCE): number {
  let largest = 0;
  for (let index = 0; index < numbers.length; index += 1) {
    const size = Math.abs(numbers[index] as number);
    if (size > largest && size !== Number.POSITIVE_INFINITY) largest = size;
  }
  return absolute + relative * largest;
}

function areClose(one: number, other: number, allowed: number): boolean {
  // Infinities and NaN have no distance.
  return Object.is(one, other) || one === other || Math.abs(one - other) <= allowed;
}

/** IEEE 754 binary16: 1 bit of sign, 5 of exponent, 10 of fraction. */
function fromFloat16(bits: number): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0x1f) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1 + fraction / 1_024) * 2 ** (exponent - 15);
}
