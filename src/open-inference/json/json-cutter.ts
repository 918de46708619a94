import { InfermuxError } from '../../common/errors.js';
import { BYTE, endOfString, isSpace } from './json-bytes.js';

/** Where a value lies in the bytes of a JSON text. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

/** Deeper ones are no inference requests. */
const MOST_DEPTH = 64;
/** Depths of the places in `{ "inputs": [ { "data": … } ] }`. */
const ROOT = 1;
const LIST = 2;
const TENSOR = 3;

/**
 * Cuts the `data` of each tensor out of the JSON text of a request or an answer, so that it can be read into a typed
 * array: `JSON.parse` would make an object of each number. What is left is small, and in it the index of its range stands
 * for each `data`.
 *
 * It works in steps, since a text may be large. It does not check the text: whoever reads the parts does.
 */
export class JsonCutter {
  readonly ranges: Range[] = [];
  readonly #bytes: Buffer;
  readonly #list: string;
  readonly #parts: string[] = [];
  /** Whether each open bracket is that of an object. */
  readonly #isObject: boolean[] = [];
  #at = 0;
  /** Start of what is not yet in `#parts`. */
  #kept = 0;
  #expectsKey = false;
  #key = '';
  #isInList = false;
  /** Brackets open within the value that is being cut; -1: none is being cut. */
  #cutDepth = -1;
  #cutStart = 0;

  /** @param list the key whose value is the list of tensors, at the root of the text. */
  constructor(bytes: Buffer, list: 'inputs' | 'outputs') {
    this.#bytes = bytes;
    this.#list = list;
  }

  /** The text without the data. Call it at the end. */
  get rest(): string {
    return this.#parts.join('');
  }

  /** Length of the text without the data, as far as it is known. */
  get restBytes(): number {
    return (
      this.#parts.reduce((sum, part) => sum + part.length, 0) + (this.#cutDepth === -1 ? this.#at - this.#kept : 0)
    );
  }

  /**
   * Goes on for about so many bytes.
   *
   * @returns whether the end is reached.
   * @throws InfermuxError `INVALID_ARGUMENT` for a text that is nested too deeply.
   */
  step(budget: number): boolean {
    const stop = Math.min(this.#at + budget, this.#bytes.length);
    while (this.#at < stop) {
      if (this.#cutDepth === -1) this.#passToken();
      else this.#cut(stop);
    }
    if (this.#at < this.#bytes.length) return false;
    if (this.#cutDepth !== -1) this.#endCut();
    this.#parts.push(this.#bytes.toString('utf8', this.#kept));
    this.#kept = this.#at;
    return true;
  }

  /** Passes over a token outside of data. */
  #passToken(): void {
    const byte = this.#bytes[this.#at] as number;
    if (byte === BYTE.quote) {
      const end = endOfString(this.#bytes, this.#at);
      if (this.#expectsKey) this.#readKey(this.#at, end);
      this.#at = end;
      return;
    }
    this.#at += 1;
    if (byte === BYTE.openObject || byte === BYTE.openList) this.#open(byte === BYTE.openObject);
    else if (byte === BYTE.closeObject || byte === BYTE.closeList) this.#close();
    else if (byte === BYTE.comma) this.#expectsKey = this.#isObject.at(-1) === true;
    else if (byte === BYTE.colon && this.#isInList && this.#isObject.length === TENSOR && this.#key === 'data')
      this.#beginCut();
  }

  #open(isObject: boolean): void {
    if (this.#isObject.length === MOST_DEPTH) {
      throw new InfermuxError('INVALID_ARGUMENT', `the body must be nested at most ${MOST_DEPTH} deep`);
    }
    if (this.#isObject.length === ROOT && !isObject && this.#key === this.#list) this.#isInList = true;
    this.#isObject.push(isObject);
    this.#expectsKey = isObject;
  }

  #close(): void {
    this.#isObject.pop();
    this.#expectsKey = false;
    if (this.#isObject.length < LIST) this.#isInList = false;
  }

  #readKey(start: number, end: number): void {
    this.#expectsKey = false;
    const depth = this.#isObject.length;
    if (depth !== ROOT && depth !== TENSOR) return;
    const key = this.#bytes.toString('latin1', start + 1, end - 1);
    // A key may be written with escapes.
    this.#key = key.includes('\\') ? unescaped(key) : key;
  }

  #beginCut(): void {
    while (isSpace(this.#bytes[this.#at])) this.#at += 1;
    this.#parts.push(this.#bytes.toString('utf8', this.#kept, this.#at));
    this.#kept = this.#at;
    this.#cutStart = this.#at;
    this.#cutDepth = 0;
  }

  /** Passes over a part of the value that is being cut. */
  #cut(stop: number): void {
    const bytes = this.#bytes;
    let [at, depth] = [this.#at, this.#cutDepth];
    while (at < stop) {
      const byte = bytes[at] as number;
      if (byte === BYTE.quote) {
        at = endOfString(bytes, at);
        continue;
      }
      if (byte === BYTE.openList || byte === BYTE.openObject) depth += 1;
      else if (byte === BYTE.closeList || byte === BYTE.closeObject) depth -= 1;
      // The end of what the value is in, or of the value.
      if (depth < 0 || (depth === 0 && byte === BYTE.comma)) break;
      at += 1;
      if (depth === 0 && byte === BYTE.closeList) break;
    }
    [this.#at, this.#cutDepth] = [at, Math.max(depth, 0)];
    if (at < stop) this.#endCut();
  }

  #endCut(): void {
    this.#parts.push(String(this.ranges.length));
    this.ranges.push({ start: this.#cutStart, end: this.#at });
    this.#kept = this.#at;
    this.#cutDepth = -1;
  }
}

function unescaped(key: string): string {
  try {
    return JSON.parse(`"${key}"`) as string;
  } catch {
    return key;
  }
}
