import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import type { Tensor, TensorData, TensorType } from '../../dist/tensors/tensor.js';

/** Real models, which are not part of the project. Tests report when they are absent. */
export const SHARED_MODELS =
  process.env['INFERMUX_SHARED_MODELS'] ?? fileURLToPath(new URL('../../../shared/models', import.meta.url));

export const areSharedModelsHere = existsSync(SHARED_MODELS);

const schema = protobuf.loadSync(fileURLToPath(new URL('../../native-models/build/onnx.proto', import.meta.url)));
const TensorProto = schema.lookupType('onnx.TensorProto');

/** TensorProto.DataType by number. */
const TYPES: Readonly<Record<number, TensorType>> = {
  1: 'float32',
  2: 'uint8',
  3: 'int8',
  4: 'uint16',
  5: 'int16',
  6: 'int32',
  7: 'int64',
  8: 'string',
  9: 'bool',
  10: 'float16',
  11: 'float64',
  12: 'uint32',
  13: 'uint64',
};

const ARRAYS = {
  float32: Float32Array,
  float64: Float64Array,
  float16: Uint16Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  uint16: Uint16Array,
  int32: Int32Array,
  uint32: Uint32Array,
  int64: BigInt64Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
} as const;

interface RawTensor {
  readonly dims: readonly { toString(): string }[];
  readonly dataType: number;
  readonly floatData: readonly number[];
  readonly int32Data: readonly number[];
  readonly int64Data: readonly { toString(): string }[];
  readonly uint64Data: readonly { toString(): string }[];
  readonly doubleData: readonly number[];
  readonly stringData: readonly Uint8Array[];
  readonly rawData: Uint8Array;
}

export function readTensorProto(file: string): Tensor {
  const raw = TensorProto.decode(readFileSync(file)) as unknown as RawTensor;
  const type = TYPES[raw.dataType];
  if (type === undefined) throw new Error(`${file}: unknown data type ${raw.dataType}`);
  return { type, dims: raw.dims.map(Number), data: readData(type, raw) } as Tensor;
}

function readData(type: TensorType, raw: RawTensor): TensorData {
  if (type === 'string') return raw.stringData.map((bytes) => Buffer.from(bytes).toString('utf8'));
  const Type = ARRAYS[type];
  if (raw.rawData.length > 0) {
    const bytes = Uint8Array.from(raw.rawData);
    return new Type(bytes.buffer, 0, bytes.length / Type.BYTES_PER_ELEMENT);
  }
  if (type === 'int64') return BigInt64Array.from(raw.int64Data, (value) => BigInt(value.toString()));
  if (type === 'uint64') return BigUint64Array.from(raw.uint64Data, (value) => BigInt(value.toString()));
  const numbers = [raw.floatData, raw.doubleData, raw.int32Data, raw.uint64Data.map(Number)].find(
    (part) => part.length > 0,
  );
  return (Type as Float32ArrayConstructor).from(numbers ?? []);
}

export interface SharedCase {
  readonly id: string;
  readonly path: string;
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  readonly sets: readonly { readonly feeds: Record<string, Tensor>; readonly expected: Record<string, Tensor> }[];
}

export function readSharedCases(): SharedCase[] {
  if (!areSharedModelsHere) return [];
  const root = `${SHARED_MODELS}/cases`;
  return readdirSync(root).map((id) => {
    const folder = `${root}/${id}`;
    const declared = JSON.parse(readFileSync(`${folder}/case.json`, 'utf8')) as {
      inputs: [string, string, unknown][];
      outputs: [string, string, unknown][];
    };
    const [inputs, outputs] = [declared.inputs.map(([name]) => name), declared.outputs.map(([name]) => name)];
    const read = (set: string, kind: string, names: readonly string[]) =>
      Object.fromEntries(
        names.map((name, index) => [name, readTensorProto(`${folder}/${set}/${kind}_${index}.pb`)] as const),
      );
    const sets = readdirSync(folder)
      .filter((name) => name.startsWith('test_data_set_'))
      .map((set) => ({ feeds: read(set, 'input', inputs), expected: read(set, 'output', outputs) }));
    const file = ['model.onnx', 'model.ort'].find((name) => existsSync(`${folder}/${name}`));
    return { id, path: `${folder}/${file}`, inputs, outputs, sets };
  });
}

/** Returns a difference beyond 1e-5 + 1e-3·|x| for floats, or any for other types; undefined when there is none. */
export function difference(actual: Tensor | undefined, expected: Tensor): string | undefined {
  if (actual === undefined) return 'is missing';
  if (actual.type !== expected.type) return `is ${actual.type}, not ${expected.type}`;
  if (actual.dims.join() !== expected.dims.join()) return `has dims ${actual.dims}, not ${expected.dims}`;
  const isFloat = actual.type === 'float32' || actual.type === 'float64';
  for (let index = 0; index < expected.data.length; index += 1) {
    const [left, right] = [actual.data[index], expected.data[index]];
    const isSame = isFloat
      ? Math.abs(Number(left) - Number(right)) <= 1e-5 + 1e-3 * Math.abs(Number(right)) || Object.is(left, right)
      : left === right;
    if (!isSame) return `has ${left} at ${index}, not ${right}`;
  }
  return undefined;
}
