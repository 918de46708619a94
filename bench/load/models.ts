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
  readonly batchable: boolean;
}

interface Recipe {
  readonly id: string;
  readonly title: string;
  readonly row: readonly number[];
  readonly outputWidth: number;
  /** Rows of every request; undefined for a free first dimension. */
  readonly rows?: number;
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
    layers: (random) => mlp([8, 8], random),
  },
  {
    id: 'mlp-64',
    title: 'MLP 64→128→128→10',
    row: [64],
    outputWidth: 10,
    layers: (random) => mlp([64, 128, 128, 10], random),
  },
  {
    id: 'mlp-512',
    title: 'MLP 512→3×1024→128',
    row: [512],
    outputWidth: 128,
    layers: (random) => mlp([512, 1024, 1024, 1024, 128], random),
  },
  convolutional({ id: 'conv', title: `CNN 3×${SIDE}×${SIDE}` }),
  {
    id: 'fixed-8',
    title: 'MLP 8→8, batch fixed at 1',
    row: [8],
    outputWidth: 8,
    rows: 1,
    layers: (random) => mlp([8, 8], random),
  },
];

/** The convolutional model with requests of so many rows that one takes 100 to 150 ms, and takes no more. */
const LONG_ROWS = 12;
const LONG = convolutional({
  id: 'long',
  title: `CNN ${LONG_ROWS}×3×${SIDE}×${SIDE}`,
  rows: LONG_ROWS,
});

function convolutional(named: Pick<Recipe, 'id' | 'title' | 'rows'>): Recipe {
  return {
    ...named,
    row: [3, SIDE, SIDE],
    outputWidth: 10,
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
  };
}

const DIGITS_CNN: BenchModel = {
  id: 'digits-cnn',
  title: 'digits-cnn',
  path: fileURLToPath(new URL('../../native-models/digits-cnn/model.onnx', import.meta.url)),
  input: 'image',
  output: 'probabilities',
  dims: [1, 64],
  batchable: true,
};

/** Makes a folder that is deleted when the process ends. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'infermux-bench-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Writes the models into a folder. They are untrained, since only the time of their runs counts. */
export function writeModels(folder: string): BenchModel[] {
  const made = RECIPES.map((recipe) => write(folder, recipe));
  return [...made.slice(0, 3), DIGITS_CNN, ...made.slice(3)];
}

/** Writes a model whose runs are long. */
export function writeLongModel(folder: string): BenchModel {
  return write(folder, LONG);
}

function write(folder: string, recipe: Recipe): BenchModel {
  const { id, title, row, rows } = recipe;
  const path = join(folder, id, 'model.onnx');
  mkdirSync(join(folder, id));
  writeFileSync(path, encode(recipe));
  return { id, title, path, input: 'x', output: 'y', dims: [rows ?? 1, ...row], batchable: rows === undefined };
}

function encode({ id, row, rows, outputWidth, layers }: Recipe): Uint8Array {
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
  const first = rows ?? 'N';
  return encodeModel({
    name: id,
    nodes,
    initializers,
    inputs: [{ name: 'x', dims: [first, ...row] }],
    outputs: [{ name: 'y', dims: [first, outputWidth] }],
  });
}
