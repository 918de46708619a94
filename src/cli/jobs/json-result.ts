import { datatypeOf } from '../../open-inference/datatypes.js';
import { doAtOnce } from '../../open-inference/json/steps.js';
import { type Allocate, tensorFromRaw } from '../../open-inference/raw-tensors.js';
import { readTensorMessage } from '../../open-inference/rest/tensor-message.js';
import { arrayTypeOf, elementsOf, newTensor, type Tensor, type TensorOf } from '../../tensors/tensor.js';

const allocate: Allocate = (type, dims) =>
  newTensor(type, dims, new (arrayTypeOf(type))(elementsOf(dims))) as TensorOf<typeof type>;

/** Returns the body of a result as an object whose data are all numbers and texts. */
export function readJsonResult(body: Uint8Array, jsonBytes: number | undefined): object {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  const { fields, tensors } = doAtOnce(readTensorMessage(bytes.subarray(0, jsonBytes), 'outputs', allocate));
  let at = jsonBytes ?? bytes.length;
  const outputs = tensors.map((head) => {
    const { name, binaryBytes = 0 } = head;
    const tensor = head.tensor ?? tensorFromRaw(name, head, bytes.subarray(at, at + binaryBytes), allocate);
    at += binaryBytes;
    return { name, datatype: datatypeOf(tensor.type), shape: tensor.dims, data: dataOf(tensor) };
  });
  return { ...fields, outputs };
}

function dataOf({ data }: Tensor): unknown[] {
  return Array.from(data as Iterable<unknown>, (value) =>
    typeof value === 'bigint'
      ? exact(value)
      : typeof value === 'number' && !Number.isFinite(value)
        ? String(value)
        : value,
  );
}

/** An integer that a double does not hold stays a text, as do NaN and infinity. */
const exact = (value: bigint) => (Number.isSafeInteger(Number(value)) ? Number(value) : String(value));
