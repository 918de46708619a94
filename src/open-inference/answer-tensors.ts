import { InfermuxError, show } from '../common/errors.js';
import { fromFloat16 } from '../tensors/float16.js';
import type { Tensor, TensorType } from '../tensors/tensor.js';
import { areTensors, HANDLER_RESPONSE, jsonTensor } from './handler-tensors.js';
import type { InferenceCall, RequestedOutput } from './inference-call.js';

/** An output as it is answered. */
export interface AnsweredTensor {
  readonly name: string;
  readonly tensor: Tensor;
  /** Whether its data are wanted in binary form. */
  readonly isBinary: boolean;
  /** Whether it is a handler's answer as JSON. */
  readonly isJson: boolean;
}

/**
 * Returns the outputs in the order in which the request names them, otherwise in that of the model.
 *
 * @param answer of a model, or of a handler: what a handler answers that is no object of tensors becomes the JSON in the
 *   one element of a BYTES tensor named `response`.
 */
export function answeredTensors(answer: unknown, call: Pick<InferenceCall, 'outputs' | 'isBinary'>): AnsweredTensor[] {
  const { outputs, isBinary } = call;
  const isJson = !areTensors(answer);
  const tensors = isJson ? { [HANDLER_RESPONSE]: jsonTensor(answer) } : answer;
  if (outputs === undefined) {
    return Object.keys(tensors).map((name) => ({ name, tensor: tensors[name] as Tensor, isBinary, isJson }));
  }
  return outputs.map((output) => {
    const { name } = output;
    const tensor = Object.hasOwn(tensors, name) ? tensors[name] : undefined;
    // A model's outputs were checked. A handler answers what it wants.
    if (tensor === undefined) throw new InfermuxError('INVALID_ARGUMENT', `the answer has no output ${show(name)}`);
    return { name, tensor: classified(tensor, output), isBinary: output.isBinary ?? isBinary, isJson };
  });
}

/**
 * Returns the best classes in place of the scores, as Triton's extension for classification does: for each row
 * `value:index`, the best first.
 */
function classified(tensor: Tensor, { name, classes }: RequestedOutput): Tensor {
  if (classes === undefined) return tensor;
  const { type, dims, data } = tensor;
  if (type === 'string' || type === 'bool' || dims.length === 0) {
    const message = `output ${show(name)} of ${type} and shape ${show(dims)} has no classes`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const scores = dims.at(-1) as number;
  const kept = Math.min(classes, scores);
  const labels: string[] = [];
  for (let row = 0; row * scores < data.length; row += 1) {
    const own = data.slice(row * scores, (row + 1) * scores);
    const order = Array.from(own.keys()).sort((left, right) => scoreOf(type, own, right) - scoreOf(type, own, left));
    for (const index of order.slice(0, kept)) labels.push(`${scoreOf(type, own, index).toFixed(6)}:${index}`);
  }
  return { type: 'string', dims: [...dims.slice(0, -1), kept], data: labels };
}

function scoreOf(type: TensorType, data: ArrayLike<number | bigint>, index: number): number {
  const score = Number(data[index]);
  return type === 'float16' ? fromFloat16(score) : score;
}
