import { InfermuxError } from '../common/errors.js';
import type { Steps } from './json/steps.js';

/*
 * The binary form of BYTES: before each element its length in 4 bytes, little-endian.
 */

const LENGTH_BYTES = 4;
/** What a string takes in memory beside its characters, about. */
export const BYTES_OF_A_STRING = 48;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Strings that are read in one step: about 0.1 ms. */
const STEP_STRINGS = 1_024;

/** @throws InfermuxError `INVALID_ARGUMENT` for bytes that are not as many strings of UTF-8. */
export function* readByteStrings(where: string, bytes: Uint8Array, elements: number): Steps<string[]> {
  const strings: string[] = [];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  while (at < bytes.byteLength) {
    if (at + LENGTH_BYTES > bytes.byteLength) throw cutShort(where);
    const end = at + LENGTH_BYTES + view.getUint32(at, true);
    if (end > bytes.byteLength) throw cutShort(where);
    if (strings.length === elements) throw wrongCount(where, elements, 'more');
    strings.push(textOf(where, bytes.subarray(at + LENGTH_BYTES, end), strings.length));
    at = end;
    if (strings.length % STEP_STRINGS === 0) yield;
  }
  if (strings.length < elements) throw wrongCount(where, elements, String(strings.length));
  return strings;
}

/** @throws InfermuxError `INVALID_ARGUMENT` for bytes that are no UTF-8. */
export function textOf(where: string, bytes: Uint8Array, index: number): string {
  try {
    return utf8.decode(bytes);
  } catch {
    const message = `${where}: element ${index} must be UTF-8, because onnxruntime's strings are`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
}

export function writeByteStrings(strings: readonly string[]): Buffer {
  let size = 0;
  const sizes = strings.map((text) => Buffer.byteLength(text));
  for (const length of sizes) size += LENGTH_BYTES + length;
  const bytes = Buffer.allocUnsafeSlow(size);
  let at = 0;
  for (const [index, text] of strings.entries()) {
    at = bytes.writeUInt32LE(sizes[index] as number, at);
    at += bytes.write(text, at);
  }
  return bytes;
}

function cutShort(where: string): InfermuxError {
  const message = `${where}: each element of BYTES needs its length in 4 bytes, and as many bytes after it`;
  return new InfermuxError('INVALID_ARGUMENT', message);
}

function wrongCount(where: string, elements: number, got: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', `${where}: the shape needs ${elements} elements, data has ${got}`);
}
