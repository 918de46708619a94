import { createHash } from 'node:crypto';
import { type Digit, PIXELS } from '../../src/cli/demo/digits.js';
import { Convolution, Dense, type Layer, MaxPool, Relu, Reshape } from './layers.js';
import { encodeModel, type OnnxGraph, type OnnxInitializer, type OnnxNode } from './onnx.js';
import { seededRandom } from './random.js';
import { type Activation, type Example, predict, type Training, train } from './train.js';

/** Factor for pixel values, which run from 0 to 16. The graphs apply it, so that callers send raw pixels. */
const PIXEL_SCALE = 1 / 16;

export interface ModelRecipe {
  readonly id: string;
  readonly description: string;
  readonly seed: number;
  readonly output: { readonly name: string; readonly width: number };
  readonly activation: Activation;
  readonly training: Training;
  /** Accuracy on the unseen digits that the trained model must reach. */
  readonly requiredAccuracy: number;
  layers(random: () => number): Layer[];
  target(label: number): Float32Array;
  isRight(probabilities: Float32Array, label: number): boolean;
}

export interface BuiltModel {
  readonly onnx: Uint8Array;
  readonly manifest: Readonly<Record<string, unknown>>;
}

const digitTarget = (label: number) => Float32Array.from({ length: 10 }, (_, digit) => (digit === label ? 1 : 0));
const mostProbable = (probabilities: Float32Array) => probabilities.indexOf(Math.max(...probabilities));

const tenDigits = {
  output: { name: 'probabilities', width: 10 },
  activation: 'Softmax',
  target: digitTarget,
  isRight: (probabilities: Float32Array, label: number) => mostProbable(probabilities) === label,
} as const;

const specialist = (digit: number): ModelRecipe => ({
  id: `digit-${digit}`,
  description: `One against the rest: is this handwritten digit a ${digit}? Perceptron 64-32-1.`,
  seed: 100 + digit,
  output: { name: 'probability', width: 1 },
  activation: 'Sigmoid',
  training: { epochs: 40, batchSize: 16, learningRate: 0.005, weightDecay: 0.02 },
  requiredAccuracy: 0.97,
  layers: (random) => [new Dense(PIXELS, 32, random), new Relu(), new Dense(32, 1, random)],
  target: (label) => Float32Array.of(label === digit ? 1 : 0),
  isRight: (probability, label) => (probability[0] ?? 0) >= 0.5 === (label === digit),
});

/** The twelve models of the package. */
export const RECIPES: readonly ModelRecipe[] = [
  {
    ...tenDigits,
    id: 'digits-mlp',
    description: 'Which of the ten digits is it? Perceptron 64-96-10.',
    seed: 1,
    training: { epochs: 60, batchSize: 16, learningRate: 0.005, weightDecay: 0.02 },
    requiredAccuracy: 0.96,
    layers: (random) => [new Dense(PIXELS, 96, random), new Relu(), new Dense(96, 10, random)],
  },
  {
    ...tenDigits,
    id: 'digits-cnn',
    description: 'Which of the ten digits is it? Two 3×3 convolutions with pooling, then 128-10.',
    seed: 2,
    training: { epochs: 25, batchSize: 16, learningRate: 0.004, weightDecay: 0.02 },
    requiredAccuracy: 0.97,
    layers: (random) => [
      new Reshape([1, 8, 8]),
      new Convolution(1, 16, 8, random),
      new Relu(),
      new MaxPool(8),
      new Convolution(16, 32, 4, random),
      new Relu(),
      new MaxPool(4),
      new Reshape([128]),
      new Dense(128, 10, random),
    ],
  },
  ...Array.from({ length: 10 }, (_, digit) => specialist(digit)),
];

/** Trains one model from its seed and writes it as ONNX. The same recipe and digits give the same bytes. */
export function buildModel(recipe: ModelRecipe, digits: readonly Digit[]): BuiltModel {
  const random = seededRandom(recipe.seed);
  const layers = recipe.layers(random);
  const scaled = ({ pixels }: Digit) => pixels.map((value) => value * PIXEL_SCALE);
  const seen: Example[] = digits
    .filter((digit) => !digit.unseen)
    .map((digit) => ({ input: scaled(digit), target: recipe.target(digit.label) }));
  train(layers, recipe.activation, seen, recipe.training, random);

  const unseen = digits.filter((digit) => digit.unseen);
  const right = unseen.filter((digit) =>
    recipe.isRight(predict(layers, recipe.activation, scaled(digit)), digit.label),
  ).length;
  const accuracy = right / unseen.length;
  if (accuracy < recipe.requiredAccuracy) {
    throw new Error(`${recipe.id}: ${accuracy} on unseen digits, ${recipe.requiredAccuracy} required`);
  }

  const graph = toGraph(recipe, layers);
  const onnx = encodeModel(graph);
  const describe = ({ name, dims }: OnnxGraph['inputs'][number]) => ({ name, type: 'float32', shape: dims });
  return {
    onnx,
    manifest: {
      id: recipe.id,
      version: 1,
      description: recipe.description,
      inputs: graph.inputs.map(describe),
      outputs: graph.outputs.map(describe),
      sha256: createHash('sha256').update(onnx).digest('hex'),
      licence: 'MIT',
      accuracy: { unseen: Number(accuracy.toFixed(4)), digits: unseen.length },
      madeBy: {
        command: 'npm run build:models',
        data: 'native-models/data/digits.csv.gz',
        unseenRows: 'index modulo 5 equals 4',
        seed: recipe.seed,
        ...recipe.training,
      },
    },
  };
}

function toGraph(recipe: ModelRecipe, layers: readonly Layer[]): OnnxGraph {
  const nodes: OnnxNode[] = [{ opType: 'Mul', input: ['image', 'scale'], output: ['scaled'] }];
  const initializers: OnnxInitializer[] = [{ name: 'scale', dims: [], data: Float32Array.of(PIXEL_SCALE) }];
  let value = 'scaled';
  layers.forEach((layer, index) => {
    const output = `value${index + 1}`;
    const part = layer.toOnnx(`layer${index + 1}`, value, output);
    nodes.push(...part.nodes);
    initializers.push(...part.initializers);
    value = output;
  });
  nodes.push({ opType: recipe.activation, input: [value], output: [recipe.output.name] });
  return {
    name: recipe.id,
    nodes,
    initializers,
    inputs: [{ name: 'image', dims: ['N', PIXELS] }],
    outputs: [{ name: recipe.output.name, dims: ['N', recipe.output.width] }],
  };
}
