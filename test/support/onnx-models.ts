import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { TensorType } from '../../dist/index.js';
import { encodeModel, type OnnxNode } from '../../native-models/build/onnx.js';

/** y = x * factor, float32 [N, width]. */
export function scaleModel(factor: number, width = 4): Uint8Array {
  return encodeModel({
    name: `times-${factor}`,
    nodes: [{ opType: 'Mul', input: ['x', 'factor'], output: ['y'] }],
    initializers: [{ name: 'factor', dims: [], data: Float32Array.of(factor) }],
    inputs: [{ name: 'x', dims: ['N', width] }],
    outputs: [{ name: 'y', dims: ['N', width] }],
  });
}

/** y = x · I, float32 [N, M] declared, though only M = 4 can run. */
export function pickyModel(): Uint8Array {
  return encodeModel({
    name: 'picky',
    nodes: [{ opType: 'MatMul', input: ['x', 'identity'], output: ['y'] }],
    initializers: [
      { name: 'identity', dims: [4, 4], data: Float32Array.from({ length: 16 }, (_, at) => (at % 5 === 0 ? 1 : 0)) },
    ],
    inputs: [{ name: 'x', dims: ['N', 'M'] }],
    outputs: [{ name: 'y', dims: ['N', 4] }],
  });
}

/** y = x less the mean of all rows: the output of one row depends on the others. */
export function mixingModel(width = 4): Uint8Array {
  return encodeModel({
    name: 'mixing',
    nodes: [
      { opType: 'ReduceMean', input: ['x'], output: ['mean'], attributes: { axes: [0], keepdims: 1 } },
      { opType: 'Sub', input: ['x', 'mean'], output: ['y'] },
    ],
    initializers: [],
    inputs: [{ name: 'x', dims: ['N', width] }],
    outputs: [{ name: 'y', dims: ['N', width] }],
  });
}

/** y = table[index], float32: an index that is not in the table of 4 fails the run. */
export function lookUpModel(): Uint8Array {
  return encodeModel({
    name: 'look-up',
    nodes: [{ opType: 'Gather', input: ['table', 'index'], output: ['y'] }],
    initializers: [{ name: 'table', dims: [4], data: Float32Array.of(10, 11, 12, 13) }],
    inputs: [{ name: 'index', type: 'int64', dims: ['N', 1] }],
    outputs: [{ name: 'y', dims: ['N', 1] }],
  });
}

/** One output for each input, the same tensors: `in0` to `out0` and so on, of the given types and [N, 2]. */
export function identityModel(types: readonly TensorType[]): Uint8Array {
  return encodeModel({
    name: 'identity',
    nodes: types.map((_, index) => ({ opType: 'Identity', input: [`in${index}`], output: [`out${index}`] })),
    initializers: [],
    inputs: types.map((type, index) => ({ name: `in${index}`, type, dims: ['N', 2] })),
    outputs: types.map((type, index) => ({ name: `out${index}`, type, dims: ['N', 2] })),
  });
}

/** Outputs that onnxruntime-node cannot carry. */
export type OddOutput = 'sequence' | 'optional' | 'int4' | 'uint4';

/**
 * An odd output of each kind, named after it, made from the input x, float32 [N, 2]; and if wanted `label`, -x. With a
 * megabyte of weights, so that they can be shared.
 */
export function oddOutputsModel(kinds: readonly OddOutput[], hasLabel = true): Uint8Array {
  const dims = ['N', 2];
  const made = kinds.map((kind) => {
    if (kind === 'sequence') {
      const node = { opType: 'SequenceConstruct', input: ['x', 'x'], output: [kind] };
      return { node, output: { name: kind, dims, container: kind } };
    }
    if (kind === 'optional') {
      return {
        node: { opType: 'Optional', input: ['x'], output: [kind] },
        output: { name: kind, dims, container: kind },
      };
    }
    const attributes = { to: kind === 'int4' ? 22 : 21 };
    return {
      node: { opType: 'Cast', input: ['x'], output: [kind], attributes },
      output: { name: kind, type: kind, dims },
    };
  });
  return encodeModel({
    name: 'odd-outputs',
    opset: 21,
    nodes: [...made.map(({ node }) => node), ...(hasLabel ? [{ opType: 'Neg', input: ['x'], output: ['label'] }] : [])],
    initializers: [{ name: 'unused', dims: [2 ** 18], data: new Float32Array(2 ** 18) }],
    inputs: [{ name: 'x', dims }],
    outputs: [...made.map(({ output }) => output), ...(hasLabel ? [{ name: 'label', dims }] : [])],
  });
}

/** Returns its input x as an output that is also called x: float32 [N, 2]. */
export function throughModel(): Uint8Array {
  const values = [{ name: 'x', dims: ['N', 2] }];
  const nodes = [{ opType: 'Identity', input: ['x'], output: ['y'] }];
  return encodeModel({ name: 'through', nodes, initializers: [], inputs: values, outputs: values });
}

/** A model whose every run multiplies matrices for a while: input x float32 [1], output y float32 [1]. */
export function slowRunModel(multiplications: number, side = 512): Uint8Array {
  const chain = matMulChain(multiplications, 'grid');
  return encodeModel({
    name: 'slow-run',
    nodes: [
      { opType: 'Expand', input: ['x', 'shape'], output: ['grid'] },
      ...chain.nodes,
      { opType: 'ReduceMax', input: [chain.last], output: ['max'], attributes: { keepdims: 0 } },
      { opType: 'Reshape', input: ['max', 'one'], output: ['y'] },
    ],
    initializers: [
      { name: 'shape', dims: [2], data: BigInt64Array.of(BigInt(side), BigInt(side)) },
      { name: 'one', dims: [1], data: BigInt64Array.of(1n) },
      { name: 'weights', dims: [side, side], data: new Float32Array(side * side).fill(1 / side) },
    ],
    inputs: [{ name: 'x', dims: [1] }],
    outputs: [{ name: 'y', dims: [1] }],
  });
}

/** A model whose load takes a while, because onnxruntime folds its constants then; y = x. */
export function slowLoadModel(multiplications: number, side = 768): Uint8Array {
  const chain = matMulChain(multiplications, 'weights');
  return encodeModel({
    name: 'slow-load',
    nodes: [
      ...chain.nodes,
      { opType: 'ReduceMax', input: [chain.last], output: ['max'], attributes: { keepdims: 0 } },
      { opType: 'Mul', input: ['max', 'zero'], output: ['nothing'] },
      { opType: 'Add', input: ['x', 'nothing'], output: ['y'] },
    ],
    initializers: [
      { name: 'weights', dims: [side, side], data: new Float32Array(side * side).fill(1 / side) },
      { name: 'zero', dims: [], data: Float32Array.of(0) },
    ],
    inputs: [{ name: 'x', dims: [1] }],
    outputs: [{ name: 'y', dims: [1] }],
  });
}

const SMALLEST = -(2n ** 63n);

/** Kills the process that loads it: onnxruntime folds the smallest int64 by -1. On x64 alone; y = x + that. */
export function trapModel(): Uint8Array {
  return encodeModel({
    name: 'trap',
    nodes: [
      { opType: 'Div', input: ['smallest', 'minus-one'], output: ['quotient'] },
      { opType: 'Add', input: ['x', 'quotient'], output: ['y'] },
    ],
    initializers: [
      { name: 'smallest', dims: [1], data: BigInt64Array.of(SMALLEST) },
      { name: 'minus-one', dims: [1], data: BigInt64Array.of(-1n) },
    ],
    inputs: [{ name: 'x', type: 'int64', dims: ['N'] }],
    outputs: [{ name: 'y', type: 'int64', dims: ['N'] }],
  });
}

/** y = the smallest int64 / (0 · x - 1), int64 [N]: every run kills the process. On x64 alone. */
export function trapRunModel(): Uint8Array {
  return encodeModel({
    name: 'trap-run',
    nodes: [
      { opType: 'Mul', input: ['x', 'zero'], output: ['nothing'] },
      { opType: 'Sub', input: ['nothing', 'one'], output: ['minus-one'] },
      { opType: 'Div', input: ['smallest', 'minus-one'], output: ['y'] },
    ],
    initializers: [
      { name: 'smallest', dims: [1], data: BigInt64Array.of(SMALLEST) },
      { name: 'zero', dims: [1], data: BigInt64Array.of(0n) },
      { name: 'one', dims: [1], data: BigInt64Array.of(1n) },
    ],
    inputs: [{ name: 'x', type: 'int64', dims: ['N'] }],
    outputs: [{ name: 'y', type: 'int64', dims: ['N'] }],
  });
}

/** Takes 4 · side · side bytes in a run: y = the largest element of a grid, float32 [1]. */
export function hungryModel(side: number): Uint8Array {
  return encodeModel({
    name: 'hungry',
    nodes: [
      { opType: 'Expand', input: ['x', 'shape'], output: ['grid'] },
      { opType: 'ReduceMax', input: ['grid'], output: ['max'], attributes: { keepdims: 0 } },
      { opType: 'Reshape', input: ['max', 'one'], output: ['y'] },
    ],
    initializers: [
      { name: 'shape', dims: [2], data: BigInt64Array.of(BigInt(side), BigInt(side)) },
      { name: 'one', dims: [1], data: BigInt64Array.of(1n) },
    ],
    inputs: [{ name: 'x', dims: [1] }],
    outputs: [{ name: 'y', dims: [1] }],
  });
}

function matMulChain(length: number, first: string): { nodes: OnnxNode[]; last: string } {
  const nodes: OnnxNode[] = [];
  let last = first;
  for (let index = 0; index < length; index += 1) {
    nodes.push({ opType: 'MatMul', input: [last, 'weights'], output: [`product${index}`] });
    last = `product${index}`;
  }
  return { nodes, last };
}

/** Creates a fresh directory with the given models as `<id>.onnx`; an id may contain a folder. */
export function modelDirectory(models: Readonly<Record<string, Uint8Array>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'infermux-models-'));
  for (const [id, bytes] of Object.entries(models)) {
    const path = join(directory, `${id}.onnx`);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, bytes);
  }
  return directory;
}

/** y = x + bias, float32 [N, width], with the bias in a file of its own. */
export function externalModel(file: string, width = 4096): { model: Uint8Array; weights: Uint8Array } {
  const bias = Float32Array.from({ length: width }, (_, index) => index);
  const model = encodeModel({
    name: 'external',
    nodes: [{ opType: 'Add', input: ['x', 'bias'], output: ['y'] }],
    initializers: [{ name: 'bias', dims: [width], data: bias, file }],
    inputs: [{ name: 'x', dims: ['N', width] }],
    outputs: [{ name: 'y', dims: ['N', width] }],
  });
  return { model, weights: new Uint8Array(bias.buffer) };
}

/** Perceptron of square layers, float32 [N, width], with weights that are worth sharing. */
export function denseModel(width: number, layers: number): Uint8Array {
  const names = Array.from({ length: layers }, (_, layer) => `weights${layer}`);
  const output = (layer: number) => (layer === layers - 1 ? 'y' : `value${layer}`);
  return encodeModel({
    name: 'dense',
    nodes: names.map((name, layer) => ({
      opType: 'MatMul',
      input: [layer === 0 ? 'x' : output(layer - 1), name],
      output: [output(layer)],
    })),
    initializers: names.map((name, layer) => ({
      name,
      dims: [width, width],
      data: Float32Array.from({ length: width * width }, (_, index) => Math.sin(index + layer) / width),
    })),
    inputs: [{ name: 'x', dims: ['N', width] }],
    outputs: [{ name: 'y', dims: ['N', width] }],
  });
}

/** A model whose run does not end: a loop without a bound. Input x and output y, float32 [N]. */
export function endlessRunModel(): Uint8Array {
  const vector = (name: string) => ({ name, dims: ['N'] });
  const isOn = (name: string) => ({ name, type: 'bool', dims: [] }) as const;
  const body = {
    name: 'body',
    nodes: [
      { opType: 'Identity', input: ['on'], output: ['stays-on'] },
      { opType: 'Identity', input: ['value'], output: ['same-value'] },
    ],
    initializers: [],
    inputs: [{ name: 'turn', type: 'int64', dims: [] } as const, isOn('on'), vector('value')],
    outputs: [isOn('stays-on'), vector('same-value')],
  };
  return encodeModel({
    name: 'endless-run',
    nodes: [{ opType: 'Loop', input: ['turns', '', 'x'], output: ['y'], attributes: { body } }],
    initializers: [{ name: 'turns', dims: [], data: BigInt64Array.of(2n ** 63n - 1n) }],
    inputs: [vector('x')],
    outputs: [vector('y')],
  });
}

/** A model whose load does not end: each function calls the one before it twice. Input x and output y, float32 [N]. */
export function endlessLoadModel(): Uint8Array {
  const functions = Array.from({ length: 26 }, (_, index) => {
    const inner = index === 0 ? { opType: 'Neg' } : { opType: `twice-${index - 1}`, isLocal: true };
    return {
      name: `twice-${index}`,
      nodes: [
        { ...inner, input: ['x'], output: ['once'] },
        { ...inner, input: ['once'], output: ['y'] },
      ],
      input: ['x'],
      output: ['y'],
    };
  });
  return encodeModel({
    name: 'endless-load',
    functions,
    nodes: [{ opType: 'twice-25', isLocal: true, input: ['x'], output: ['y'] }],
    initializers: [],
    inputs: [{ name: 'x', dims: ['N'] }],
    outputs: [{ name: 'y', dims: ['N'] }],
  });
}
