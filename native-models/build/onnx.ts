import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';

const schema = protobuf.loadSync(fileURLToPath(new URL('./onnx.proto', import.meta.url)));
const ModelProto = schema.lookupType('onnx.ModelProto');

/** TensorProto.DataType numbers. */
const DATA_TYPES = {
  float32: 1,
  uint8: 2,
  int8: 3,
  uint16: 4,
  int16: 5,
  int32: 6,
  int64: 7,
  string: 8,
  bool: 9,
  float16: 10,
  float64: 11,
  uint32: 12,
  uint64: 13,
  uint4: 21,
  int4: 22,
} as const;
const EXTERNAL = 1;
const ATTRIBUTE_TYPES = { INT: 2, INTS: 7 } as const;

/** The oldest IR version of each operator set; a newer one is refused by older runtimes. */
const IR_VERSIONS = { 17: 8, 21: 10 } as const;

export interface OnnxNode {
  readonly opType: string;
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly attributes?: Readonly<Record<string, number | readonly number[]>>;
}

export interface OnnxInitializer {
  readonly name: string;
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array;
  /** Name of a file with only this data; the caller that writes the model writes it too. Default: data in the model. */
  readonly file?: string;
}

/** An input or output; a string stands for a symbolic dimension. */
export interface OnnxValue {
  readonly name: string;
  /** Default float32. */
  readonly type?: keyof typeof DATA_TYPES;
  readonly dims: readonly (number | string)[];
  /** Whether it is a sequence of such tensors, or none or one. Default: it is a tensor. */
  readonly container?: 'sequence' | 'optional';
}

export interface OnnxGraph {
  readonly name: string;
  /** Version of the operator set. Default 17. */
  readonly opset?: keyof typeof IR_VERSIONS;
  readonly nodes: readonly OnnxNode[];
  readonly initializers: readonly OnnxInitializer[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

/** Returns the bytes of an ONNX file. The same graph gives the same bytes. */
export function encodeModel(graph: OnnxGraph): Uint8Array {
  const { opset = 17 } = graph;
  return ModelProto.encode(
    ModelProto.create({
      irVersion: IR_VERSIONS[opset],
      producerName: 'infermux native-models',
      opsetImport: [{ domain: '', version: opset }],
      graph: {
        name: graph.name,
        node: graph.nodes.map((node, index) => ({
          name: `${node.opType}_${index}`,
          opType: node.opType,
          input: node.input,
          output: node.output,
          attribute: Object.entries(node.attributes ?? {}).map(encodeAttribute),
        })),
        initializer: graph.initializers.map(({ name, dims, data, file }) => ({
          name,
          dims,
          dataType: data instanceof Float32Array ? DATA_TYPES.float32 : DATA_TYPES.int64,
          ...(file === undefined
            ? { rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) }
            : { externalData: [{ key: 'location', value: file }], dataLocation: EXTERNAL }),
        })),
        input: graph.inputs.map(encodeValue),
        output: graph.outputs.map(encodeValue),
      },
    }),
  ).finish();
}

function encodeAttribute([name, value]: [string, number | readonly number[]]) {
  return typeof value === 'number'
    ? { name, type: ATTRIBUTE_TYPES.INT, i: value }
    : { name, type: ATTRIBUTE_TYPES.INTS, ints: value };
}

function encodeValue({ name, type = 'float32', dims, container }: OnnxValue) {
  const dim = dims.map((size) => (typeof size === 'number' ? { dimValue: size } : { dimParam: size }));
  const tensor = { tensorType: { elemType: DATA_TYPES[type], shape: { dim } } };
  if (container === undefined) return { name, type: tensor };
  return { name, type: { [`${container}Type`]: { elemType: tensor } } };
}
