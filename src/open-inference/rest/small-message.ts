import { isPlainObject } from '../../common/values/realm.js';
import { elementsOf, type Tensor } from '../../tensors/tensor.js';
import { type Datatype, typeOf } from '../datatypes.js';
import type { Allocate } from '../raw-tensors.js';

/** No small text has more. */
const MOST_ELEMENTS = 16_384;

/** Types whose numbers `JSON.parse` keeps. */
const KEPT: ReadonlySet<Datatype> = new Set(['FP32', 'FP64', 'INT8', 'INT16', 'INT32', 'UINT8', 'UINT16', 'UINT32']);

/**
 * Reads a small text by `JSON.parse`, which is the fastest for it.
 *
 * @returns undefined for a text that is no JSON object: it may have numbers that JSON does not have.
 */
export function parseSmall(bytes: Buffer): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString());
    return isPlainObject(value) ? (value as Readonly<Record<string, unknown>>) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Makes a tensor of a list of numbers, nested or not.
 *
 * @returns undefined for a list that needs a closer look: with other elements, too many or too few, out of the range of
 *   the type, or of 64-bit integers, of which it may have lost digits.
 */
export function tensorOfNumbers(
  datatype: Datatype,
  shape: readonly number[],
  given: unknown,
  allocate: Allocate,
): Tensor | undefined {
  if (!KEPT.has(datatype) || !Array.isArray(given)) return undefined;
  const elements = elementsOf(shape);
  // Before any memory is taken: a list of one level has as many items.
  if (!Array.isArray(given[0]) && given.length !== elements) return undefined;
  if (elements > MOST_ELEMENTS) return undefined;
  const tensor = allocate(typeOf(datatype) as 'float32', shape);
  const isInteger = datatype !== 'FP32' && datatype !== 'FP64';
  return fill(tensor.data, 0, given, isInteger, Math.max(1, shape.length)) === elements ? tensor : undefined;
}

/**
 * Writes the numbers of a list, nested or not.
 *
 * @param levels of lists, at most.
 * @returns the index after the last one; NaN when an element is none, or is changed by the type.
 */
function fill(data: Float32Array, start: number, list: readonly unknown[], isInteger: boolean, levels: number): number {
  let at = start;
  for (let index = 0; index < list.length; index += 1) {
    const value = list[index];
    if (typeof value === 'number') {
      data[at] = value;
      if (isInteger && data[at] !== value) return Number.NaN;
      at += 1;
    } else if (Array.isArray(value) && levels > 1) at = fill(data, at, value, isInteger, levels - 1);
    else return Number.NaN;
  }
  return at;
}
