import { InfermuxError, show } from '../common/errors.js';
import type { Tensor, TensorFeeds, ValueMetadata } from './tensor.js';

/**
 * Checks feeds against the inputs that the model declares.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a missing or unknown input, a wrong type, rank or fixed dimension.
 */
export function checkFeeds(model: string, feeds: TensorFeeds, inputs: readonly ValueMetadata[]): void {
  for (const input of inputs) {
    if (!Object.hasOwn(feeds, input.name)) {
      throw invalid(`model ${show(model)}: input ${show(input.name)} is missing; expected ${names(inputs)}`);
    }
    checkTensor(model, feeds[input.name] as Tensor, input);
  }
  let given = 0;
  for (const _ in feeds) given += 1;
  if (given === inputs.length) return;
  const stranger = Object.keys(feeds).find((name) => !inputs.some((input) => input.name === name));
  if (stranger === undefined) return;
  throw invalid(`model ${show(model)} has no input ${show(stranger)}; expected ${names(inputs)}`);
}

/** @throws InfermuxError `INVALID_ARGUMENT` when the model has no output of a wanted name. */
export function checkOutputNames(
  model: string,
  wanted: readonly string[] | undefined,
  outputs: readonly ValueMetadata[],
): void {
  const stranger = wanted?.find((name) => !outputs.some((output) => output.name === name));
  if (stranger !== undefined) {
    throw invalid(`model ${show(model)} has no output ${show(stranger)}; expected ${names(outputs)}`);
  }
}

function checkTensor(model: string, tensor: Tensor, input: ValueMetadata): void {
  if (tensor.type !== input.type) {
    throw invalid(`${inputOf(model, input)} must be ${input.type}, got ${tensor.type}`);
  }
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
  return values.length === 0 ? 'none' : values.map(({ name }) => show(name)).join(', ');
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
