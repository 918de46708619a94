/** Parsers of flag values. commander prints an error that they throw, and the command ends as for wrong usage. */
import { accessSync, constants, lstatSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InvalidArgumentError } from 'commander';
import { parseInputShape } from './bench/random-feeds.js';
import { messageOf, quoted } from './terminal/printable.js';

/** Most callers and replicas; more is a typing error. */
export const MAX_CALLERS = 10_000;
export const MAX_REPLICAS = 1_024;
/** Most numbers in a list: each is a measurement. */
const MOST_NUMBERS = 1_024;
const LEAST_SECONDS = 0.01;
const MOST_SECONDS = 10_000;

/** Adds one more `--input name=dims`. */
export function addInputShape(text: string, shapes: Map<string, readonly number[]> = new Map()) {
  let name: string;
  let dims: number[];
  try {
    [name, dims] = parseInputShape(text);
  } catch (error) {
    throw new InvalidArgumentError(messageOf(error));
  }
  if (shapes.has(name)) throw new InvalidArgumentError(`input ${quoted(name)} has a shape already.`);
  return shapes.set(name, dims);
}

/** Returns a parser of lists like `1,16,64`. */
export function integersUpTo(most: number): (text: string) => number[] {
  return (text) => {
    const numbers = text.split(',').map(Number);
    if (
      numbers.length <= MOST_NUMBERS &&
      numbers.every((number) => Number.isSafeInteger(number) && number > 0 && number <= most)
    )
      return numbers;
    throw new InvalidArgumentError(
      `expected integers from 1 to ${most} with commas between, like 1,16,64, and at most ${MOST_NUMBERS} of them.`,
    );
  };
}

export function parseSeconds(text: string): number {
  const number = Number(text);
  if (number >= LEAST_SECONDS && number <= MOST_SECONDS) return number;
  throw new InvalidArgumentError(`expected a number from ${LEAST_SECONDS} to ${MOST_SECONDS}.`);
}

/** Returns the path that a `file:` URL stands for, and any other text as it is. */
export function parsePath(text: string): string {
  try {
    return /^file:/i.test(text) ? fileURLToPath(text) : text;
  } catch (error) {
    throw new InvalidArgumentError(`expected a path or a file: URL of this machine: ${messageOf(error)}.`);
  }
}

/** Reads a path, and checks before any measurement that a file can be put there. */
export function parseWritableFile(text: string): string {
  const path = parsePath(text);
  try {
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (found !== undefined && !found.isFile()) throw new Error('a link, a folder or a device is there');
    accessSync(dirname(resolve(path)), constants.W_OK);
    return path;
  } catch (error) {
    throw new InvalidArgumentError(`expected a file that can be written: ${messageOf(error)}.`);
  }
}
