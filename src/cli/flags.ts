/** Parsers of flag values. commander prints an error that they throw, and the command ends as for wrong usage. */
import { accessSync, constants, lstatSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { InvalidArgumentError } from 'commander';
import type { Threads } from './bench/bench.js';
import { messageOf, quoted } from './terminal/printable.js';

/** Most callers, replicas and threads of a session; more is a typing error. */
export const MAX_CALLERS = 10_000;
export const MAX_REPLICAS = 1_024;
export const MAX_THREADS = 1_024;
/** Most items of a list: each is a measurement. */
const MOST_ITEMS = 1_024;
const LEAST_SECONDS = 0.01;
const MOST_SECONDS = 10_000;

/** Adds one more `--input name=dims`, like `image=1x3x224x224`. */
export function addInputShape(text: string, shapes: Map<string, readonly number[]> = new Map()) {
  const [, name, dims] = /^(.+)=(\d+(?:x\d+)*)$/.exec(text) ?? [];
  if (name === undefined || dims === undefined) {
    throw new InvalidArgumentError(`--input must be like image=1x3x224x224, got ${quoted(text)}`);
  }
  if (shapes.has(name)) throw new InvalidArgumentError(`input ${quoted(name)} has a shape already.`);
  return shapes.set(name, dims.split('x').map(Number));
}

/** Returns a parser of lists like `1,16,64`. */
export function integersUpTo(most: number): (text: string) => number[] {
  return (text) => parseList(text, Number, most, `integers from 1 to ${most}`, '1,16,64');
}

/** Reads a list like `auto,1,2`. */
export function parseThreads(text: string): Threads[] {
  const read = (item: string) => (item === 'auto' ? item : Number(item));
  return parseList<Threads>(text, read, MAX_THREADS, `auto and integers from 1 to ${MAX_THREADS}`, 'auto,1,2');
}

function parseList<T extends Threads>(
  text: string,
  read: (item: string) => T,
  most: number,
  expected: string,
  example: string,
): T[] {
  const items = text.split(',').map(read);
  const isItem = (item: Threads) => item === 'auto' || (Number.isSafeInteger(item) && item > 0 && item <= most);
  if (items.length <= MOST_ITEMS && items.every(isItem)) return items;
  throw new InvalidArgumentError(
    `expected ${expected} with commas between, like ${example}, and at most ${MOST_ITEMS} of them.`,
  );
}

const isSeconds = (number: number) => number >= LEAST_SECONDS && number <= MOST_SECONDS;

export function parseSeconds(text: string): number {
  const number = Number(text);
  if (isSeconds(number)) return number;
  throw new InvalidArgumentError(`expected seconds: a number from ${LEAST_SECONDS} to ${MOST_SECONDS}.`);
}

/** Reads a time that may be none. */
export function parseDelay(text: string): number {
  const number = Number(text);
  if (isSeconds(number) || /^0+(\.0*)?$/.test(text)) return number;
  throw new InvalidArgumentError(`expected seconds: 0, or a number from ${LEAST_SECONDS} to ${MOST_SECONDS}.`);
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

/** Most of what is counted by a flag of `serve`. */
const MOST_COUNTED = 1_000_000;

export function parseCount(text: string): number {
  const number = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(number) && number > 0 && number <= MOST_COUNTED) return number;
  throw new InvalidArgumentError(`expected an integer from 1 to ${MOST_COUNTED}.`);
}

export function parsePort(text: string): number {
  const port = Number(text);
  if (text.trim() !== '' && Number.isSafeInteger(port) && port >= 0 && port <= 65_535) return port;
  throw new InvalidArgumentError('expected a port from 0 to 65535; 0 stands for any free one.');
}

/** Reads `host:port`, `[host]:port` or `:port`. */
function parseAddress(text: string): { readonly host?: string; readonly port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:[\]]*)):(\d+)$/.exec(text);
  if (match === null) throw new InvalidArgumentError('expected host:port, like 127.0.0.1:8002.');
  const host = match[1] ?? match[2];
  const port = parsePort(match[3] as string);
  return host === undefined || host === '' ? { port } : { host, port };
}

/** Reads a word for yes or no, or an address. */
export function parseAdmin(text: string): boolean | { readonly host?: string; readonly port: number } {
  if (['true', '1', 'yes', 'on'].includes(text)) return true;
  return ['false', '0', 'no', 'off'].includes(text) ? false : parseAddress(text);
}

/** Of commands that load a model, which they do in a process of its own. */
export const TIMEOUT = [
  '--timeout <seconds>',
  'maximum time of a load, and of a run (default: 10, plus 1 for each 20 MB of the model)',
  parseSeconds,
] as const;
