import { types } from 'node:util';
import { InfermuxError, messageOf } from '../common/errors.js';
import { isPlainObject } from '../common/values/realm.js';
import { elementsOf, type Feeds, isTensorType, type Tensor, type TensorOf } from '../tensors/tensor.js';

/*
 * The protocol knows tensors alone, and a handler takes and answers anything. What is no object of tensors goes as JSON in
 * the one element of a BYTES tensor.
 */

/** Name of the BYTES tensor with a handler's request as JSON, and of the one with its answer. */
export const HANDLER_REQUEST = 'request';
export const HANDLER_RESPONSE = 'response';

/** Whether the only input may be a handler's request as JSON. */
export function mayHoldJson(feeds: Feeds): boolean {
  const only = feeds[HANDLER_REQUEST];
  return only?.type === 'string' && only.data.length === 1 && Object.keys(feeds).length === 1;
}

/** Returns the request that {@link HANDLER_REQUEST} holds. @throws InfermuxError `INVALID_ARGUMENT` for no JSON. */
export function requestOf(feeds: Feeds): unknown {
  try {
    return valueIn(feeds[HANDLER_REQUEST] as Tensor);
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `input "${HANDLER_REQUEST}" must be JSON: ${messageOf(cause)}`, {
      cause,
    });
  }
}

/** Returns the value whose JSON a BYTES tensor holds. @throws SyntaxError for no JSON. */
export function valueIn({ data }: Tensor): unknown {
  return JSON.parse((data as readonly string[])[0] as string);
}

/** A BYTES tensor of one element: the value as JSON. */
export function jsonTensor(value: unknown): TensorOf<'string'> {
  return { type: 'string', dims: [1], data: [jsonOf(value)] };
}

/**
 * Returns a value as JSON: typed arrays, Maps and Sets as lists, and integers that a double does not hold as strings.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a value without a JSON form.
 */
export function jsonOf(value: unknown): string {
  try {
    return JSON.stringify(value, replaced) ?? 'null';
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `the answer has no JSON form: ${messageOf(cause)}`, { cause });
  }
}

function replaced(_: string, value: unknown): unknown {
  if (typeof value === 'bigint') return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
  if (types.isTypedArray(value)) return Array.from(value as Iterable<unknown>);
  return types.isMap(value) || types.isSet(value) ? [...(value as Iterable<unknown>)] : value;
}

/** Whether a value is an object of tensors, by name. */
export function areTensors(value: unknown): value is Readonly<Record<string, Tensor>> {
  if (!isPlainObject(value)) return false;
  for (const name in value) if (!isTensor(value[name])) return false;
  return true;
}

function isTensor(value: unknown): boolean {
  if (value === null || typeof value !== 'object') return false;
  const { type, dims, data } = value as Partial<Tensor>;
  return isTensorType(type) && Array.isArray(dims) && data?.length === elementsOf(dims);
}
