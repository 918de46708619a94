import fc from 'fast-check';
import { elementsOf, type Tensor, type TensorFeeds, type TensorType } from '../../dist/tensors/tensor.js';

const DATA: { readonly [T in TensorType]: (length: number) => fc.Arbitrary<unknown> } = {
  float32: (length) => fc.float32Array({ minLength: length, maxLength: length }),
  float64: (length) => fc.float64Array({ minLength: length, maxLength: length }),
  float16: (length) => fc.uint16Array({ minLength: length, maxLength: length }),
  int8: (length) => fc.int8Array({ minLength: length, maxLength: length }),
  uint8: (length) => fc.uint8Array({ minLength: length, maxLength: length }),
  int16: (length) => fc.int16Array({ minLength: length, maxLength: length }),
  uint16: (length) => fc.uint16Array({ minLength: length, maxLength: length }),
  int32: (length) => fc.int32Array({ minLength: length, maxLength: length }),
  uint32: (length) => fc.uint32Array({ minLength: length, maxLength: length }),
  int64: (length) => fc.bigInt64Array({ minLength: length, maxLength: length }),
  uint64: (length) => fc.bigUint64Array({ minLength: length, maxLength: length }),
  bool: (length) => fc.uint8Array({ minLength: length, maxLength: length, max: 1 }),
  string: (length) => fc.array(fc.string({ unit: 'grapheme-ascii' }), { minLength: length, maxLength: length }),
};

export const TENSOR_TYPES = Object.keys(DATA) as TensorType[];

export const tensorType = fc.constantFrom(...TENSOR_TYPES);

export function tensorOf(type: TensorType, dims: readonly number[]): fc.Arbitrary<Tensor> {
  return DATA[type](elementsOf(dims)).map((data) => ({ type, dims, data }) as Tensor);
}

/** Inputs by name with their type and the shape of a row. */
const layout = fc.dictionary(
  fc.constantFrom('a', 'b', '__proto__', 'длина'),
  fc.record({ type: tensorType, row: fc.array(fc.integer({ min: 0, max: 3 }), { maxLength: 2 }) }),
  { minKeys: 1, noNullPrototype: true },
);

/** Requests of the same layout, each with its own number of rows or all with the same number. */
export const alikeRequests: fc.Arbitrary<readonly TensorFeeds[]> = fc
  .record({
    layout,
    rows: fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 6 }),
    same: fc.boolean(),
  })
  .chain(({ layout: inputs, rows, same }) =>
    fc.tuple(
      ...rows.map((count) => {
        const tensors = Object.entries(inputs).map(([name, { type, row }]) =>
          tensorOf(type, [same ? (rows[0] ?? 0) : count, ...row]).map((tensor) => [name, tensor] as const),
        );
        return fc.tuple(...tensors).map((entries) => Object.fromEntries(entries));
      }),
    ),
  );
