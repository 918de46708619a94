import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Convolution, Dense, type Layer, MaxPool, Relu, Reshape } from '../../native-models/build/layers.js';
import { encodeModel, type OnnxInitializer, type OnnxNode } from '../../native-models/build/onnx.js';
import { seededRandom } from '../../native-models/build/random.js';

/** One model under load: one float32 input, one float32 output. */
export interface BenchModel {
  readonly id: string;
  readonly title: string;
  readonly path: string;
  readonly input: string;
  readonly output: string;
  /** Shape of one request. */
  readonly dims: readonly number[];
  readonly outputWidth: number;
  readonly batchable: boolean;
}

interface Recipe {
  readonly id: string;
  readonly title: string;
  readonly row: readonly number[];
  readonly outputWidth: number;
  readonly batchable: boolean;
  layers(random: () => number): Layer[];
}

const mlp = (sizes: readonly number[], random: () => number): Layer[] =>
  sizes.slice(1).flatMap((size, index) => {
    const dense = new Dense(sizes[index] ?? 0, size, random);
    return index === sizes.length - 2 ? [dense] : [dense, new Relu()];
  });

const SIDE = 96;

const RECIPES: readonly Recipe[] = [
  {
    id: 'mlp-8',
    title: 'MLP 8→8',
    row: [8],
    outputWidth: 8,
    batchable: true,
    layers: (random) => mlp([8, 8], random),
  },
  {
    id: 'mlp-64',
    title: 'MLP 64→128→128→10',
    row: [64],
    outputWidth: 10,
    batchable: true,
    layers: (random) => mlp([64, 128, 128, 10], random),
  },
  {
    id: 'mlp-512',
    title: 'MLP 512→3×1024→128',
    row: [512],
    outputWidth: 128,
    batchable: true,
    layers: (random) => mlp([512, 1024, 1024, 1024, 128], random),
  },
  {
    id: 'conv',
    title: `CNN 3×${SIDE}×${SIDE}`,
    row: [3, SIDE, SIDE],
    outputWidth: 10,
    batchable: true,
    layers: (random) => [
      new Convolution(3, 48, SIDE, random),
      new Relu(),
      new Convolution(48, 96, SIDE, random),
      new Relu(),
      new MaxPool(SIDE),
      new Convolution(96, 64, SIDE / 2, random),
      new Relu(),
      new MaxPool(SIDE / 2),
      new Reshape([64 * (SIDE / 4) ** 2]),
      new Dense(64 * (SIDE / 4) ** 2, 10, random),
    ],
  },
  {
    id: 'fixed-8',
    title: 'MLP 8→8, batch fixed at 1',
    row: [8],
    outputWidth: 8,
    batchable: false,
    layers: (random) => mlp([8, 8], random),
  },
];

const DIGITS_CNN: BenchModel = {
  id: 'digits-cnn',
  title: 'digits-cnn',
  path: fileURLToPath(new URL('../../native-models/digits-cnn/model.onnx', import.meta.url)),
  input: 'image',
  output: 'probabilities',
  dims: [1, 64],
  outputWidth: 10,
  batchable: true,
};

/** Writes the models into a temporary folder. They are untrained, since only the time of their runs counts. */
export function writeModels(): BenchModel[] {
  const folder = mkdtempSync(join(tmpdir(), 'infermux-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const made = RECIPES.map((recipe): BenchModel => {
    const path = join(folder, recipe.id, 'model.onnx');
    mkdirSync(join(folder, recipe.id));
    writeFileSync(path, encode(recipe));
    const { id, title, row, outputWidth, batchable } = recipe;
    return { id, title, path, input: 'x', output: 'y', dims: [1, ...row], outputWidth, batchable };
  });
  return [...made.slice(0, 3), DIGITS_CNN, ...made.slice(3)];
}

function encode({ id, row, outputWidth, batchable, layers }: Recipe): Uint8Array {
  const nodes: OnnxNode[] = [];
  const initializers: OnnxInitializer[] = [];
  const all = layers(seededRandom(1));
  let value = 'x';
  for (const [index, layer] of all.entries()) {
    const output = index === all.length - 1 ? 'y' : `value${index}`;
    const part = layer.toOnnx(`layer${index}`, value, output);
    nodes.push(...part.nodes);
    initializers.push(...part.initializers);
    value = output;
  }
  const rows = batchable ? 'N' : 1;
  return encodeModel({
    name: id,
    nodes,
    initializers,
    inputs: [{ name: 'x', dims: [rows, ...row] }],
    outputs: [{ name: 'y', dims: [rows, outputWidth] }],
  });
}
