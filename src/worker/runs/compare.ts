import { show } from '../../common/errors.js';
import { fromFloat16 } from '../../tensors/float16.js';
import type { Outputs, Tensor, TensorData, TensorFeeds } from '../../tensors/tensor.js';

/** Sums in a different order differ in their last bits. */
const TOLERANCE = { absolute: 1e-6, relative: 1e-4 };
/** float16 has 11 significant bits. */
const FLOAT16_TOLERANCE = { absolute: 1e-3, relative: 1e-2 };
/**
 * The error of a sum is relative to the numbers that were summed, which may be larger than the sum. The usual magnitude
 * of the output stands for them, and not its largest numbers: beside a mask of -1e9 everything would be near zero.
 */
const USUAL_QUANTILE = 0.1;
const MOST_SAMPLES = 4_096;
const GOLDEN_RATIO = (1 + Math.sqrt(5)) / 2;
/**
 * Quantised numbers may be off by one at the border between two, so a few of them may; flags and classes may not. An
 * output with no wider range than this counts as flags or classes.
 */
const LEAST_QUANTISED_RANGE = 16;
const MOST_AT_BORDER = 0.01;

/** Whether two requests have the same elements in the same shape. */
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

/** Says how the outputs of the same requests differ; undefined when they agree, numbers within tolerance. */
export function whyDifferent(found: readonly Outputs[], expected: readonly Outputs[]): string | undefined {
  for (const name in expected[0]) {
    const tensors = expected.map((outputs) => outputs[name] as Tensor);
    const reason = whyTensorsDifferent(
      found.map((outputs) => outputs[name]),
      tensors,
    );
    if (reason !== undefined) return `output ${show(name)} ${reason}`;
  }
  return undefined;
}

function whyTensorsDifferent(found: readonly (Tensor | undefined)[], expected: readonly Tensor[]): string | undefined {
  const areClose = closenessOf(expected);
  for (const [request, tensor] of expected.entries()) {
    const other = found[request];
    if (other === undefined) return 'is missing';
    const dims = `[${other.dims}]`;
    if (dims !== `[${tensor.dims}]`) return `has dims ${dims} instead of [${tensor.dims}]`;
    for (let index = 0; index < tensor.data.length; index += 1) {
      const one = other.data[index];
      const wanted = tensor.data[index];
      if (!areClose(one, wanted)) return `is ${String(one)} instead of ${String(wanted)} at element ${index}`;
    }
  }
  return undefined;
}

/** Returns the test whether two elements agree. The tensors have one type. Call the test once for each element. */
function closenessOf(tensors: readonly Tensor[]): (one: unknown, other: unknown) => boolean {
  switch (tensors[0]?.type) {
    case 'float32':
    case 'float64': {
      const usual = usualMagnitude(tensors, (element) => element as number);
      return (one, other) => areCloseNumbers(one as number, other as number, usual, TOLERANCE);
    }
    case 'float16': {
      const usual = usualMagnitude(tensors, (element) => fromFloat16(element as number));
      return (one, other) =>
        areCloseNumbers(fromFloat16(one as number), fromFloat16(other as number), usual, FLOAT16_TOLERANCE);
    }
    case 'int8':
    case 'uint8': {
      let left = mostAtBorder(tensors);
      return (one, other) => {
        if (one === other) return true;
        left -= 1;
        return left >= 0 && Math.abs((one as number) - (other as number)) === 1;
      };
    }
    default:
      return (one, other) => one === other;
  }
}

/** A low quantile of the magnitudes, without zeros and infinities: the size of the output's smaller numbers. */
function usualMagnitude(tensors: readonly Tensor[], read: (element: unknown) => number): number {
  const elements = tensors.reduce((sum, { data }) => sum + data.length, 0);
  const share = Math.min(1, MOST_SAMPLES / elements);
  const magnitudes: number[] = [];
  for (const { data } of tensors) {
    const samples = Math.ceil(share * data.length);
    for (let sample = 0; sample < samples; sample += 1) {
      // Samples are spread evenly, but not at a fixed step, which could hit the same column again and again.
      const index = share === 1 ? sample : Math.floor(((sample * GOLDEN_RATIO) % 1) * data.length);
      const magnitude = Math.abs(read(data[index]));
      if (magnitude > 0 && magnitude < Number.POSITIVE_INFINITY) magnitudes.push(magnitude);
    }
  }
  magnitudes.sort((left, right) => left - right);
  // Never the smallest: it may be the rounding error of larger numbers.
  return magnitudes[Math.ceil(USUAL_QUANTILE * magnitudes.length)] ?? 0;
}

function areCloseNumbers(one: number, other: number, usual: number, { absolute, relative }: typeof TOLERANCE): boolean {
  // Infinities and NaN have no distance.
  if (Object.is(one, other) || one === other) return true;
  return Math.abs(one - other) <= absolute + relative * Math.max(usual, Math.abs(other));
}

/** How many elements may be off by one. */
function mostAtBorder(tensors: readonly Tensor[]): number {
  let lowest = Number.POSITIVE_INFINITY;
  let highest = Number.NEGATIVE_INFINITY;
  let elements = 0;
  for (const { data } of tensors) {
    for (const element of data as Int8Array) {
      if (element < lowest) lowest = element;
      if (element > highest) highest = element;
    }
    elements += data.length;
  }
  return highest - lowest <= LEAST_QUANTISED_RANGE ? 0 : Math.ceil(MOST_AT_BORDER * elements);
}
