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
const ATTRIBUTE_TYPES = { INT: 2, STRING: 3, GRAPH: 5, FLOATS: 6, INTS: 7, STRINGS: 8 } as const;
/** The domain of functions, which a model brings with it. */
const LOCAL_DOMAIN = 'local';
/** The operators of classical machine learning, and the version of them that all runtimes know. */
const ML_OPERATORS = { domain: 'ai.onnx.ml', version: 3 } as const;

/** The oldest IR version of each operator set; a newer one is refused by older runtimes. */
const IR_VERSIONS = { 17: 8, 21: 10 } as const;

export interface OnnxNode {
  readonly opType: string;
  readonly input: readonly string[];
  readonly output: readonly string[];
  readonly attributes?: Readonly<Record<string, OnnxAttribute>>;
  /** Whether it calls a function of the model. Default: an operator. */
  readonly isLocal?: boolean;
  /** Whether the operator is one of `ai.onnx.ml`. */
  readonly isMl?: boolean;
}

/** A graph is the body of a loop. */
type OnnxAttribute = number | string | readonly number[] | readonly string[] | Float32Array | OnnxBody;

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

/** An operator that is made of others. */
export interface OnnxFunction {
  readonly name: string;
  readonly nodes: readonly OnnxNode[];
  readonly input: readonly string[];
  readonly output: readonly string[];
}

export interface OnnxBody {
  readonly name: string;
  readonly nodes: readonly OnnxNode[];
  readonly initializers: readonly OnnxInitializer[];
  readonly inputs: readonly OnnxValue[];
  readonly outputs: readonly OnnxValue[];
}

export interface OnnxGraph extends OnnxBody {
  /** Version of the operator set. Default 17. */
  readonly opset?: keyof typeof IR_VERSIONS;
  readonly functions?: readonly OnnxFunction[];
}

/** Returns the bytes of an ONNX file. The same graph gives the same bytes. */
export function encodeModel(graph: OnnxGraph): Uint8Array {
  const { opset = 17, functions = [] } = graph;
  const opsetImport = [
    { domain: '', version: opset },
    ...(functions.length === 0 ? [] : [{ domain: LOCAL_DOMAIN, version: 1 }]),
    ...(graph.nodes.some(({ isMl }) => isMl) ? [ML_OPERATORS] : []),
  ];
  return ModelProto.encode(
    ModelProto.create({
      irVersion: IR_VERSIONS[opset],
      producerName: 'infermux native-models',
      opsetImport,
      graph: encodeGraph(graph),
      functions: functions.map(({ name, nodes, input, output }) => ({
        ...{ name, domain: LOCAL_DOMAIN, input, output, opsetImport },
        node: nodes.map(encodeNode),
      })),
    }),
  ).finish();
}

function encodeGraph({ name, nodes, initializers, inputs, outputs }: OnnxBody) {
  return {
    name,
    node: nodes.map(encodeNode),
    initializer: initializers.map(({ name, dims, data, file }) => ({
      name,
      dims,
      dataType: data instanceof Float32Array ? DATA_TYPES.float32 : DATA_TYPES.int64,
      ...(file === undefined
        ? { rawData: new Uint8Array(data.buffer, data.byteOffset, data.byteLength) }
        : { externalData: [{ key: 'location', value: file }], dataLocation: EXTERNAL }),
    })),
    input: inputs.map(encodeValue),
    output: outputs.map(encodeValue),
  };
}

function encodeNode(
  { opType, input, output, attributes = {}, isLocal = false, isMl = false }: OnnxNode,
  index: number,
): object {
  return {
    name: `${opType}_${index}`,
    ...{ opType, input, output },
    ...(isLocal && { domain: LOCAL_DOMAIN }),
    ...(isMl && { domain: ML_OPERATORS.domain }),
    attribute: Object.entries(attributes).map(encodeAttribute),
  };
}

function encodeAttribute([name, value]: [string, OnnxAttribute]) {
  if (typeof value === 'number') return { name, type: ATTRIBUTE_TYPES.INT, i: value };
  if (typeof value === 'string') return { name, type: ATTRIBUTE_TYPES.STRING, s: Buffer.from(value) };
  if (value instanceof Float32Array) return { name, type: ATTRIBUTE_TYPES.FLOATS, floats: [...value] };
  if ('nodes' in value) return { name, type: ATTRIBUTE_TYPES.GRAPH, g: encodeGraph(value) };
  if (value.some((each) => typeof each === 'string')) {
    return { name, type: ATTRIBUTE_TYPES.STRINGS, strings: value.map((each) => Buffer.from(String(each))) };
  }
  return { name, type: ATTRIBUTE_TYPES.INTS, ints: value };
}

function encodeValue({ name, type = 'float32', dims, container }: OnnxValue) {
  const dim = dims.map((size) => (typeof size === 'number' ? { dimValue: size } : { dimParam: size }));
  const tensor = { tensorType: { elemType: DATA_TYPES[type], shape: { dim } } };
  if (container === undefined) return { name, type: tensor };
  return { name, type: { [`${container}Type`]: { elemType: tensor } } };
}
