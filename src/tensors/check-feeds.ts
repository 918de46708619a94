import { isListOf } from '../common/checks.js';
import { InfermuxError, show, showNames } from '../common/errors.js';
import {
  isTensorType,
  type ModelMetadata,
  type ReadFeeds,
  setProperty,
  type Tensor,
  type TensorFeeds,
  type UntypedTensor,
  type ValueMetadata,
} from './tensor.js';
import { toType } from './untyped-elements.js';

/**
 * Checks feeds against the inputs that the model declares, and gives elements without a type the type of their input.
 *
 * @param feeds changed in place.
 * @throws InfermuxError `INVALID_ARGUMENT` for a missing or unknown input, a wrong type, rank or fixed dimension, or an
 *   element that the type cannot hold.
 */
export function checkFeeds(
  model: string,
  feeds: ReadFeeds,
  inputs: readonly ValueMetadata[],
): asserts feeds is TensorFeeds {
  for (const input of inputs) {
    if (!Object.hasOwn(feeds, input.name)) {
      throw invalid(
        `model ${show(model)}: input ${show(input.name)} is missing; expected ${names(inputs)}, got ${showNames(Object.keys(feeds)) || 'no inputs'}`,
      );
    }
    const tensor = feeds[input.name] as Tensor | UntypedTensor;
    if (tensor.type !== input.type) {
      setProperty(feeds as Record<string, Tensor>, input.name, typed(model, tensor, input));
    }
    checkDims(model, tensor, input);
  }
  let given = 0;
  for (const _ in feeds) given += 1;
  if (given === inputs.length) return;
  const stranger = Object.keys(feeds).find((name) => !inputs.some((input) => input.name === name));
  if (stranger === undefined) return;
  throw invalid(`model ${show(model)} has no input ${show(stranger)}; expected ${names(inputs)}`);
}

export const areOutputNames = isListOf((name) => typeof name === 'string', 'a non-empty array of output names');

/** @throws InfermuxError `INVALID_ARGUMENT` when the model cannot return an output of a wanted name. */
export function checkOutputNames(
  model: string,
  wanted: readonly string[] | undefined,
  { outputs, omittedOutputs }: ModelMetadata,
): void {
  const stranger = wanted?.find((name) => !outputs.some((output) => output.name === name));
  if (stranger === undefined) return;
  const omitted = omittedOutputs.find(({ name }) => name === stranger);
  if (omitted === undefined) {
    throw invalid(`model ${show(model)} has no output ${show(stranger)}; expected ${names(outputs)}`);
  }
  const what = `model ${show(model)}: output ${show(stranger)} cannot be returned`;
  throw invalid(`${what}: ${omitted.reason}; expected ${names(outputs)}`);
}

function typed(model: string, { type, dims, data }: Tensor | UntypedTensor, input: ValueMetadata): Tensor {
  if (isTensorType(type)) throw invalid(`${inputOf(model, input)} must be ${input.type}, got ${type}`);
  const elements = { type, data } as UntypedTensor;
  return { type: input.type, dims, data: toType(inputOf(model, input), input.type, elements) } as Tensor;
}

function checkDims(model: string, tensor: Pick<Tensor, 'dims'>, input: ValueMetadata): void {
  // onnxruntime reports both "no shape" and "scalar" as []; only a run can tell.
  if (input.shape.length === 0) return;
  const fits =
    tensor.dims.length === input.shape.length &&
    input.shape.every((size, axis) => typeof size === 'string' || size === tensor.dims[axis]);
  if (!fits) {
    throw invalid(`${inputOf(model, input)} must have dims ${showShape(input.shape)}, got ${showShape(tensor.dims)}`);
  }
}

function inputOf(model: string, { name }: ValueMetadata): string {
  return `model ${show(model)}: input ${show(name)}`;
}

function showShape(shape: readonly (number | string)[]): string {
  return `[${shape.map((size) => (size === '' ? '?' : size)).join(', ')}]`;
}

function names(values: readonly ValueMetadata[]): string {
  return showNames(values.map(({ name }) => name));
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
