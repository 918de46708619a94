import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeModel, type OnnxInitializer, type OnnxNode } from '../../native-models/build/onnx.js';
import { seededRandom } from '../../native-models/build/random.js';

/** A model whose weights are worth sharing: one float32 input `x`, one float32 output `y`, free first dimension. */
export interface WeightyModel {
  readonly id: string;
  readonly title: string;
  readonly path: string;
  /** Shape of one row of the input. */
  readonly row: readonly number[];
  /** Bytes of the weights, which are nearly the whole file. */
  readonly weightBytes: number;
}

interface Recipe {
  readonly id: string;
  readonly title: string;
  readonly row: readonly number[];
  /** Shape of one row of the output; undefined when it is the input's. */
  readonly output?: readonly number[];
  /** Adds the nodes from `x` to `y`. */
  build(graph: Graph): void;
}

const RECIPES: readonly Recipe[] = [
  perceptron('mlp', [4_096, 4_096, 4_096, 3_072]),
  // One of its matrices has 17 MB, which is below the size that glibc always gives back.
  perceptron('mlp-mixed', [1_024, 4_096, 4_096, 4_096, 2_048]),
  {
    id: 'conv',
    title: 'CNN of six 3×3 convolutions of 512 channels',
    row: [512, 7, 7],
    build: (graph) => {
      let value = 'x';
      for (let layer = 0; layer < 6; layer += 1) value = graph.add('Relu', [graph.convolution(value, 512, 512)]);
      graph.end(value);
    },
  },
  {
    id: 'transformer',
    title: 'two transformer blocks of 768, 16 tokens',
    row: [16, 768],
    build: (graph) => graph.end(transformerBlock(graph, transformerBlock(graph, 'x', 768, 12), 768, 12)),
  },
];

function perceptron(id: string, sizes: readonly number[]): Recipe {
  return {
    id,
    title: `MLP ${sizes.join('→')}`,
    row: sizes.slice(0, 1),
    output: sizes.slice(-1),
    build: (graph) => {
      let value = 'x';
      for (const [index, size] of sizes.slice(1).entries()) {
        value = graph.dense(value, sizes[index] as number, size);
        if (index < sizes.length - 2) value = graph.add('Relu', [value]);
      }
      graph.end(value);
    },
  };
}

/** Adds attention and a perceptron, each with a norm before and a residual connection around (Radford et al. 2019). */
function transformerBlock(graph: Graph, input: string, width: number, heads: number): string {
  const headWidth = width / heads;
  const normed = graph.norm(input, width);
  const split = (kind: string, perm: number[]) => {
    const projected = graph.dense(normed, width, width);
    const parted = graph.add('Reshape', [projected, graph.integers(`${kind}Heads`, [0, 0, heads, headWidth])]);
    return graph.add('Transpose', [parted], { perm });
  };
  const query = split('query', [0, 2, 1, 3]);
  const key = split('key', [0, 2, 3, 1]);
  const value = split('value', [0, 2, 1, 3]);
  const scores = graph.add('Mul', [graph.add('MatMul', [query, key]), graph.weights([], 1, 1 / Math.sqrt(headWidth))]);
  const mixed = graph.add('MatMul', [graph.add('Softmax', [scores], { axis: -1 }), value]);
  const joined = graph.add('Reshape', [
    graph.add('Transpose', [mixed], { perm: [0, 2, 1, 3] }),
    graph.integers('joined', [0, 0, width]),
  ]);
  const attended = graph.add('Add', [input, graph.dense(joined, width, width)]);
  const wide = graph.add('Relu', [graph.dense(graph.norm(attended, width), width, 4 * width)]);
  return graph.add('Add', [attended, graph.dense(wide, 4 * width, width)]);
}

/** Writes a model node by node. The weights are random, since only time, memory and equal results count. */
class Graph {
  readonly nodes: OnnxNode[] = [];
  readonly initializers: OnnxInitializer[] = [];
  weightBytes = 0;
  readonly #random = seededRandom(1);
  #values = 0;

  add(opType: string, input: readonly string[], attributes: OnnxNode['attributes'] = {}): string {
    const output = this.#name('value');
    this.nodes.push({ opType, input, output: [output], attributes });
    return output;
  }

  end(value: string): void {
    this.nodes.push({ opType: 'Identity', input: [value], output: ['y'] });
  }

  dense(input: string, from: number, to: number): string {
    const product = this.add('MatMul', [input, this.weights([from, to], from)]);
    return this.add('Add', [product, this.weights([to], from)]);
  }

  convolution(input: string, channels: number, filters: number): string {
    const kernels = this.weights([filters, channels, 3, 3], 9 * channels);
    return this.add('Conv', [input, kernels, this.weights([filters], channels)], {
      kernel_shape: [3, 3],
      pads: [1, 1, 1, 1],
    });
  }

  norm(input: string, width: number): string {
    return this.add('LayerNormalization', [input, this.weights([width], 1, 1), this.weights([width], width)]);
  }

  integers(kind: string, values: readonly number[]): string {
    const name = this.#name(kind);
    this.initializers.push({ name, dims: [values.length], data: BigInt64Array.from(values, BigInt) });
    return name;
  }

  /** He et al. 2015: uniform with variance 2 / fan-in; or one value for all. */
  weights(dims: readonly number[], fanIn: number, all?: number): string {
    const name = this.#name('weights');
    const data = new Float32Array(dims.reduce((product, size) => product * size, 1));
    const limit = Math.sqrt(6 / fanIn);
    for (let index = 0; index < data.length; index += 1) data[index] = all ?? (this.#random() * 2 - 1) * limit;
    this.initializers.push({ name, dims, data });
    this.weightBytes += data.byteLength;
    return name;
  }

  #name(kind: string): string {
    this.#values += 1;
    return `${kind}${this.#values}`;
  }
}

/**
 * Writes the models as `<folder>/<id>/model.onnx`.
 *
 * @param only ids of the models to write; all if not said.
 */
export function writeWeightyModels(folder: string, only = RECIPES.map(({ id }) => id)): WeightyModel[] {
  return RECIPES.filter(({ id }) => only.includes(id)).map(({ id, title, row, output = row, build }) => {
    const graph = new Graph();
    build(graph);
    const path = join(folder, id, 'model.onnx');
    mkdirSync(join(folder, id));
    const bytes = encodeModel({
      name: id,
      nodes: graph.nodes,
      initializers: graph.initializers,
      inputs: [{ name: 'x', dims: ['N', ...row] }],
      outputs: [{ name: 'y', dims: ['N', ...output] }],
    });
    writeFileSync(path, bytes);
    return { id, title, path, row, weightBytes: graph.weightBytes };
  });
}
