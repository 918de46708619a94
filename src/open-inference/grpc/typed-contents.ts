import { InfermuxError, show } from '../../common/errors.js';
import { elementsOf, type Tensor } from '../../tensors/tensor.js';
import { textOf } from '../byte-strings.js';
import { type Datatype, typeOf } from '../datatypes.js';
import type { Allocate, TensorHead } from '../raw-tensors.js';
import { CONTENTS, type ContentsField, type WireTensor } from './infer-messages.js';

/** The field with the elements of each type. FP16 has none. */
const FIELDS: Readonly<Record<Exclude<Datatype, 'FP16'>, ContentsField>> = {
  BOOL: CONTENTS.bool,
  INT8: CONTENTS.int,
  INT16: CONTENTS.int,
  INT32: CONTENTS.int,
  INT64: CONTENTS.int64,
  UINT8: CONTENTS.uint,
  UINT16: CONTENTS.uint,
  UINT32: CONTENTS.uint,
  UINT64: CONTENTS.uint64,
  FP32: CONTENTS.fp32,
  FP64: CONTENTS.fp64,
  BYTES: CONTENTS.bytes,
};

const FIELD_NAMES = Object.fromEntries(Object.entries(CONTENTS).map(([name, field]) => [field, `${name}_contents`]));

type FixedTensor = Exclude<Tensor, { type: 'string' }>;

/**
 * Reads a tensor whose elements are in `contents`.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for the field of another type, another number of elements than the shape needs,
 *   or an element that the type cannot hold.
 */
export function tensorFromContents(
  where: string,
  { datatype, shape }: TensorHead,
  contents: WireTensor['contents'],
  allocate: Allocate,
): Tensor {
  if (datatype === 'FP16') throw invalid(`${where}: FP16 needs raw_input_contents`);
  const expected = FIELDS[datatype];
  const { field, values } = contents ?? { field: expected, values: [] };
  if (field !== expected) {
    throw invalid(`${where}: ${datatype} belongs in ${FIELD_NAMES[expected]}, got ${FIELD_NAMES[field]}`);
  }
  const elements = elementsOf(shape);
  if (values.length !== elements) {
    throw invalid(`${where}: shape ${show(shape)} needs ${elements} elements, contents has ${values.length}`);
  }
  const type = typeOf(datatype);
  if (type === 'string') {
    const data = (values as readonly Uint8Array[]).map((bytes, index) => textOf(where, bytes, index));
    return { type, dims: shape, data };
  }
  const tensor = allocate(type, shape) as FixedTensor;
  (tensor.data as { set(values: ArrayLike<number | bigint | boolean>): void }).set(values as ArrayLike<number>);
  checkKept(where, datatype, values as ArrayLike<number | bigint | boolean>, tensor);
  return tensor;
}

/** A narrow type has its elements in a wider one, which may hold more than the type does. */
function checkKept(where: string, datatype: Datatype, values: ArrayLike<unknown>, { data }: FixedTensor): void {
  if (!['INT8', 'INT16', 'UINT8', 'UINT16'].includes(datatype)) return;
  for (let index = 0; index < data.length; index += 1) {
    if (data[index] === values[index]) continue;
    throw invalid(`${where}: element ${index} of ${datatype} must be in its range, got ${show(values[index])}`);
  }
}

/** Returns the contents of an output; undefined for FP16. */
export function contentsOf(tensor: Tensor, datatype: Datatype): WireTensor['contents'] {
  if (datatype === 'FP16') return undefined;
  const field = FIELDS[datatype];
  if (tensor.type === 'string') return { field, values: tensor.data.map((text) => Buffer.from(text)) };
  if (tensor.type === 'bool') return { field, values: Array.from(tensor.data, (byte) => byte !== 0) };
  if (tensor.type === 'float32' || tensor.type === 'float64') return { field, values: tensor.data };
  return { field, values: Array.from(tensor.data as ArrayLike<number>) };
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
