import { InfermuxError, show } from '../common/errors.js';
import { ARRAY_TYPES, isDim, MOST_DIMS, type TensorType } from '../tensors/tensor.js';

/** The protocol's names of the element types, and the engine's. */
const TYPES = {
  BOOL: 'bool',
  UINT8: 'uint8',
  UINT16: 'uint16',
  UINT32: 'uint32',
  UINT64: 'uint64',
  INT8: 'int8',
  INT16: 'int16',
  INT32: 'int32',
  INT64: 'int64',
  FP16: 'float16',
  FP32: 'float32',
  FP64: 'float64',
  BYTES: 'string',
} as const satisfies Readonly<Record<string, TensorType>>;

export type Datatype = keyof typeof TYPES;

export const DATATYPES = Object.keys(TYPES) as readonly Datatype[];

const NAMES = Object.fromEntries(Object.entries(TYPES).map(([name, type]) => [type, name])) as Readonly<
  Record<TensorType, Datatype>
>;

/** Returns the protocol's name of a type. */
export function datatypeOf(type: TensorType): Datatype {
  return NAMES[type];
}

/** Returns the engine's name of a type. */
export function typeOf(datatype: Datatype): TensorType {
  return TYPES[datatype];
}

/** Bytes of one element; undefined for BYTES, whose elements have any length. */
export function bytesOfElement(datatype: Datatype): number | undefined {
  return datatype === 'BYTES' ? undefined : ARRAY_TYPES[TYPES[datatype]].BYTES_PER_ELEMENT;
}

/** @param list names the tensor in messages, with its index. @throws InfermuxError `INVALID_ARGUMENT` for a name that is none, and for BF16. */
export function checkDatatype(list: string, index: number, given: unknown): Datatype {
  if (typeof given === 'string' && Object.hasOwn(TYPES, given)) return given as Datatype;
  const where = `${list}[${index}]`;
  const message =
    given === 'BF16'
      ? `${where}.datatype BF16 is not supported: onnxruntime-node has no such tensors; send FP32`
      : `${where}.datatype must be one of ${DATATYPES.join(', ')}, got ${show(given)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

/** @param list names the tensor in messages, with its index. @throws InfermuxError `INVALID_ARGUMENT` for a shape that no tensor has. */
export function checkShape(list: string, index: number, given: unknown): readonly number[] {
  if (Array.isArray(given) && given.length <= MOST_DIMS && given.every(isDim)) return given;
  const message = `${list}[${index}].shape must be a list of at most ${MOST_DIMS} integers from 0 to 2147483647, got ${show(given)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}
