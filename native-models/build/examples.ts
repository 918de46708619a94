/**
 * `npm run build:examples`: writes the models of the examples. They have the shapes of models that are known to the public,
 * and next to no weights: what they answer means little.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { encodeModel, type OnnxGraph } from './onnx.js';
import { seededRandom } from './random.js';

const EXAMPLES = new URL('../../examples/', import.meta.url);
const random = seededRandom(28);
const weights = (length: number, scale = 1) => Float32Array.from({ length }, () => scale * (random() - 0.5));
const CLASSES = 1_000;
const VOCABULARY = 64;
const WIDTH = 32;
const FRAME = 512;
const STATE = 128;

/** A classifier of pictures, as those that were trained on ImageNet. */
const classifier: OnnxGraph = {
  name: 'classifier',
  nodes: [
    { opType: 'GlobalAveragePool', input: ['data'], output: ['pooled'] },
    { opType: 'Flatten', input: ['pooled'], output: ['flat'] },
    { opType: 'Gemm', input: ['flat', 'w', 'b'], output: ['scores'] },
  ],
  initializers: [
    { name: 'w', dims: [3, CLASSES], data: weights(3 * CLASSES) },
    { name: 'b', dims: [CLASSES], data: weights(CLASSES, 0.1) },
  ],
  inputs: [{ name: 'data', dims: ['N', 3, 224, 224] }],
  outputs: [{ name: 'scores', dims: ['N', CLASSES] }],
};

/** An encoder of texts, as those of sentence transformers. */
const encoder: OnnxGraph = {
  name: 'encoder',
  nodes: [
    { opType: 'Gather', input: ['table', 'input_ids'], output: ['embedded'] },
    { opType: 'Tanh', input: ['embedded'], output: ['bounded'] },
    { opType: 'Cast', input: ['attention_mask'], output: ['mask'], attributes: { to: 1 } },
    { opType: 'Unsqueeze', input: ['mask', 'last'], output: ['wide'] },
    { opType: 'Mul', input: ['bounded', 'wide'], output: ['last_hidden_state'] },
  ],
  initializers: [
    { name: 'table', dims: [VOCABULARY, WIDTH], data: weights(VOCABULARY * WIDTH, 2) },
    { name: 'last', dims: [1], data: BigInt64Array.of(-1n) },
  ],
  inputs: [
    { name: 'input_ids', type: 'int64', dims: ['N', 'L'] },
    { name: 'attention_mask', type: 'int64', dims: ['N', 'L'] },
  ],
  outputs: [{ name: 'last_hidden_state', dims: ['N', 'L', WIDTH] }],
};

/** A detector of speech with a state, as Silero's: loudness that fades. */
const detector: OnnxGraph = {
  name: 'detector',
  nodes: [
    { opType: 'Mul', input: ['input', 'input'], output: ['power'] },
    { opType: 'ReduceMean', input: ['power'], output: ['loudness'], attributes: { axes: [1], keepdims: 1 } },
    { opType: 'Mul', input: ['state', 'keep'], output: ['kept'] },
    { opType: 'Mul', input: ['loudness', 'gain'], output: ['new'] },
    { opType: 'Add', input: ['kept', 'new'], output: ['stateN'] },
    { opType: 'ReduceMean', input: ['stateN'], output: ['mean'], attributes: { axes: [0, 2], keepdims: 0 } },
    { opType: 'Unsqueeze', input: ['mean', 'last'], output: ['column'] },
    { opType: 'Add', input: ['column', 'offset'], output: ['logit'] },
    { opType: 'Sigmoid', input: ['logit'], output: ['output'] },
  ],
  initializers: [
    { name: 'keep', dims: [1], data: Float32Array.of(0.7) },
    { name: 'gain', dims: [1], data: Float32Array.of(40) },
    { name: 'offset', dims: [1], data: Float32Array.of(-3) },
    { name: 'last', dims: [1], data: BigInt64Array.of(1n) },
  ],
  inputs: [
    { name: 'input', dims: [1, FRAME] },
    { name: 'state', dims: [2, 1, STATE] },
  ],
  outputs: [
    { name: 'output', dims: [1, 1] },
    { name: 'stateN', dims: [2, 1, STATE] },
  ],
};

/** A pipeline as scikit-learn exports it: a column of strings, one of numbers, and a logistic regression with labels. */
const pipeline: OnnxGraph = {
  name: 'pipeline',
  nodes: [
    {
      ...{ opType: 'OneHotEncoder', input: ['plan'], output: ['hot'], isMl: true },
      attributes: { cats_strings: ['free', 'pro', 'team'], zeros: 1 },
    },
    { opType: 'Reshape', input: ['hot', 'shape'], output: ['flat'] },
    { opType: 'Concat', input: ['flat', 'usage'], output: ['features'], attributes: { axis: 1 } },
    {
      ...{ opType: 'LinearClassifier', input: ['features'], output: ['label', 'probabilities'], isMl: true },
      attributes: {
        coefficients: Float32Array.of(-2, 0.5, 1, -0.8, 2, -0.5, -1, 0.8),
        intercepts: Float32Array.of(0.4, -0.4),
        classlabels_strings: ['leaves', 'stays'],
        post_transform: 'LOGISTIC',
      },
    },
  ],
  initializers: [{ name: 'shape', dims: [2], data: BigInt64Array.of(-1n, 3n) }],
  inputs: [
    { name: 'plan', type: 'string', dims: ['N', 1] },
    { name: 'usage', dims: ['N', 1] },
  ],
  outputs: [
    { name: 'label', type: 'string', dims: ['N'] },
    { name: 'probabilities', dims: ['N', 2] },
  ],
};

const MODELS: Readonly<Record<string, OnnxGraph>> = {
  'images/models/classifier.onnx': classifier,
  'embeddings/models/encoder.onnx': encoder,
  'audio/models/detector.onnx': detector,
  'scikit-learn/models/churn.onnx': pipeline,
};

for (const [path, graph] of Object.entries(MODELS)) {
  const file = fileURLToPath(new URL(path, EXAMPLES));
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, encodeModel(graph));
  process.stdout.write(`${path}\n`);
}
