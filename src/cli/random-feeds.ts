import { InfermuxError, show } from '../errors.js';
import { elementsOf, type Feeds, type TensorData, type TensorInput, type ValueMetadata } from '../tensor.js';

/** Shapes of inputs by name, as the command line gives them. */
export type InputShapes = ReadonlyMap<string, readonly number[]>;

/**
 * Reads `name=1x3x224x224`.
 *
 * @throws InfermuxError `INVALID_ARGUMENT`.
 */
export function parseInputShape(text: string): [name: string, dims: number[]] {
  const [, name, dims] = /^(.+)=(\d+(?:x\d+)*)$/.exec(text) ?? [];
  if (name === undefined || dims === undefined) {
    throw new InfermuxError('INVALID_ARGUMENT', `--input must be like image=1x3x224x224, got ${show(text)}`);
  }
  return [name, dims.split('x').map(Number)];
}

/**
 * Random feeds of one request for a model. A free first dimension is 1; others must be given.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a shape that is missing, does not fit or names no input.
 */
export function randomFeeds(inputs: readonly ValueMetadata[], shapes: InputShapes, random: () => number): Feeds {
  for (const name of shapes.keys()) {
    if (!inputs.some((input) => input.name === name)) {
      const known = inputs.map((input) => show(input.name)).join(', ');
      throw new InfermuxError('INVALID_ARGUMENT', `--input: the model has no input ${show(name)}; it has ${known}`);
    }
  }
  return Object.fromEntries(inputs.map((input) => [input.name, randomTensor(input, shapes.get(input.name), random)]));
}

function randomTensor(input: ValueMetadata, given: readonly number[] | undefined, random: () => number): TensorInput {
  const dims = given ?? input.shape.map((size, axis) => (typeof size === 'string' && axis === 0 ? 1 : size));
  const isComplete = dims.every((size): size is number => typeof size === 'number');
  const fits =
    dims.length === input.shape.length &&
    input.shape.every((size, axis) => typeof size === 'string' || size === dims[axis]);
  // "No shape" and "scalar" look alike: then whatever is given may be right.
  if (!isComplete || !(fits || input.shape.length === 0)) {
    const shape = `[${input.shape.map((size) => (size === '' ? '?' : size)).join(', ')}]`;
    const example = input.shape.map((size) => (typeof size === 'string' ? 1 : size)).join('x');
    throw new InfermuxError(
      'INVALID_ARGUMENT',
      `input ${show(input.name)} has the shape ${shape}: give one that fits, like --input ${input.name}=${example}`,
    );
  }
  return { type: input.type, dims, data: randomData(input.type, elementsOf(dims), random) };
}

/** Whole numbers are 0 or 1, which are tokens, classes and flags of nearly every model that asks for some. */
function randomData(type: ValueMetadata['type'], length: number, random: () => number): TensorData {
  const bit = () => (random() < 0.5 ? 0 : 1);
  switch (type) {
    case 'float32':
      return Float32Array.from({ length }, random);
    case 'float64':
      return Float64Array.from({ length }, random);
    case 'float16':
      // The bits of 0 and of 1.
      return Uint16Array.from({ length }, () => bit() * 0x3c00);
    case 'int64':
      return BigInt64Array.from({ length }, () => BigInt(bit()));
    case 'uint64':
      return BigUint64Array.from({ length }, () => BigInt(bit()));
    case 'string':
      return Array.from({ length }, () => `text ${bit()}`);
    case 'int8':
      return Int8Array.from({ length }, bit);
    case 'int16':
      return Int16Array.from({ length }, bit);
    case 'uint16':
      return Uint16Array.from({ length }, bit);
    case 'int32':
      return Int32Array.from({ length }, bit);
    case 'uint32':
      return Uint32Array.from({ length }, bit);
    case 'uint8':
    case 'bool':
      return Uint8Array.from({ length }, bit);
  }
}
