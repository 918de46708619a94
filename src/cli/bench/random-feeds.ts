import {
  type Feeds,
  InfermuxError,
  type TensorData,
  type TensorInput,
  type TensorType,
  type ValueMetadata,
} from '../../index.js';
import { quoted, quotedNames } from '../terminal/printable.js';

/** Shapes of inputs by name, from the command line. */
export type InputShapes = ReadonlyMap<string, readonly number[]>;

/** A string counts as one byte. */
const BYTES_PER_ELEMENT: Readonly<Record<TensorType, number>> = {
  ...{ float64: 8, int64: 8, uint64: 8, float32: 4, int32: 4, uint32: 4 },
  ...{ float16: 2, int16: 2, uint16: 2, int8: 1, uint8: 1, bool: 1, string: 1 },
};

/** Most bytes of an input. More is a typing error, or would not fit into memory several times. */
const MOST_BYTES = 2 ** 30;

/**
 * Makes random feeds of one request for a model. A free first dimension is 1; other free dimensions must be given.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for shapes that are missing, do not fit, are too large or name no input.
 */
export function randomFeeds(inputs: readonly ValueMetadata[], shapes: InputShapes, random: () => number): Feeds {
  for (const name of shapes.keys()) {
    if (!inputs.some((input) => input.name === name)) {
      const known = quotedNames(inputs.map((input) => input.name));
      throw invalid(`--input: the model has no input ${quoted(name)}; its inputs: ${known}`);
    }
  }
  const all = inputs.map((input) => ({ input, dims: dimsOf(input, shapes) }));
  const wanting = all.filter(({ dims }) => dims === undefined);
  if (wanting.length > 0) {
    const flags = wanting.map(({ input }) => `--input ${input.name}=${exampleOf(input.shape)}`).join(' ');
    const reasons = wanting.map(({ input }) => describe(input, shapes.get(input.name))).join('; ');
    throw invalid(`${reasons}. Give shapes that fit, like ${flags}`);
  }
  return Object.fromEntries(all.map(({ input, dims = [] }) => [input.name, randomTensor(input, dims, random)]));
}

/** Counts the bytes of typed arrays; strings do not count. */
export function bytesOfFeeds(feeds: Feeds): number {
  return Object.values(feeds).reduce((sum, { data }) => sum + (ArrayBuffer.isView(data) ? data.byteLength : 0), 0);
}

/** Returns an input's dimensions; undefined when some are unknown or do not fit. */
function dimsOf({ name, shape }: ValueMetadata, shapes: InputShapes): number[] | undefined {
  const dims = shapes.get(name) ?? shape.map((size, axis) => (typeof size === 'string' && axis === 0 ? 1 : size));
  const isComplete = dims.every((size): size is number => typeof size === 'number');
  const fits =
    dims.length === shape.length && shape.every((size, axis) => typeof size === 'string' || size === dims[axis]);
  // "No shape" and "scalar" look alike, so any given shape may be right.
  return isComplete && (fits || shape.length === 0) ? [...dims] : undefined;
}

function describe({ name, shape }: ValueMetadata, given: readonly number[] | undefined): string {
  const declared = `[${shape.map((size) => (size === '' ? '?' : size)).join(', ')}]`;
  const got = given === undefined ? '' : `, got ${given.join('x')}`;
  return `input ${quoted(name)} has the shape ${declared}${got}`;
}

/** Returns an example shape. Free dimensions are 8, since 1 is too small for a sequence or an image. */
function exampleOf(shape: readonly (number | string)[]): string {
  return shape.map((size, axis) => (typeof size === 'number' ? size : axis === 0 ? 1 : 8)).join('x');
}

function randomTensor({ name, type }: ValueMetadata, dims: number[], random: () => number): TensorInput {
  const elements = dims.reduce((product, size) => product * size, 1);
  const bytes = elements * BYTES_PER_ELEMENT[type];
  if (bytes > MOST_BYTES) {
    throw invalid(
      `input ${quoted(name)}: ${dims.join('x')} is ${bytes.toLocaleString('en')} bytes; at most ${MOST_BYTES.toLocaleString('en')} are made`,
    );
  }
  return { type, dims, data: randomData(type, elements, random) };
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}

/** Makes random values. Integers are 0 or 1: nearly every model takes these as tokens, classes and flags. */
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
