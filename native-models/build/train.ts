import type { Layer, Parameter } from './layers.js';
import { shuffle } from './random.js';

export interface Example {
  readonly input: Float32Array;
  /** The expected answer: one probability per output. */
  readonly target: Float32Array;
}

/**
 * Turns the last layer's sums into probabilities. Both kinds have the gradient `probability - target` under
 * cross-entropy.
 */
export type Activation = 'Softmax' | 'Sigmoid';

export interface Training {
  readonly epochs: number;
  readonly batchSize: number;
  readonly learningRate: number;
  /** Weight decay, decoupled from the gradient (Loshchilov and Hutter 2019). */
  readonly weightDecay: number;
}

/** Trains on mini-batches with Adam (Kingma and Ba 2015). The learning rate falls along half a cosine. */
export function train(
  layers: readonly Layer[],
  activation: Activation,
  examples: readonly Example[],
  { epochs, batchSize, learningRate, weightDecay }: Training,
  random: () => number,
): void {
  const parameters = layers.flatMap((layer) => layer.parameters);
  const steps = epochs * Math.ceil(examples.length / batchSize);
  let step = 0;
  for (let epoch = 0; epoch < epochs; epoch += 1) {
    const order = shuffle([...examples], random);
    for (let start = 0; start < order.length; start += batchSize) {
      const batch = order.slice(start, start + batchSize);
      for (const example of batch) learnFrom(layers, activation, example);
      step += 1;
      const rate = (learningRate * (1 + Math.cos((Math.PI * step) / steps))) / 2;
      for (const parameter of parameters) adamStep(parameter, batch.length, rate, weightDecay, step);
    }
  }
}

/** Returns the probabilities for one example. */
export function predict(layers: readonly Layer[], activation: Activation, input: Float32Array): Float32Array {
  const sums = layers.reduce<Float32Array>((values, layer) => layer.forward(values), input);
  if (activation === 'Sigmoid') return sums.map((sum) => 1 / (1 + Math.exp(-sum)));
  const highest = Math.max(...sums);
  const exponentials = sums.map((sum) => Math.exp(sum - highest));
  const total = exponentials.reduce((left, right) => left + right, 0);
  return exponentials.map((value) => value / total);
}

function learnFrom(layers: readonly Layer[], activation: Activation, { input, target }: Example): void {
  const error = predict(layers, activation, input).map((probability, index) => probability - (target[index] ?? 0));
  layers.reduceRight<Float32Array>((gradient, layer) => layer.backward(gradient), error);
}

const BETA1 = 0.9;
const BETA2 = 0.999;

function adamStep(parameter: Parameter, batchSize: number, rate: number, weightDecay: number, step: number): void {
  const { values, gradient, mean, variance } = parameter;
  const meanCorrection = 1 - BETA1 ** step;
  const varianceCorrection = 1 - BETA2 ** step;
  for (let index = 0; index < values.length; index += 1) {
    const slope = (gradient[index] as number) / batchSize;
    mean[index] = BETA1 * (mean[index] as number) + (1 - BETA1) * slope;
    variance[index] = BETA2 * (variance[index] as number) + (1 - BETA2) * slope * slope;
    const direction =
      (mean[index] as number) / meanCorrection / (Math.sqrt((variance[index] as number) / varianceCorrection) + 1e-8);
    values[index] = (values[index] as number) - rate * (direction + weightDecay * (values[index] as number));
  }
  gradient.fill(0);
}
