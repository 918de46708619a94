import { InfermuxError } from '../../common/errors.js';
import { BYTE, endOfString, isSpace } from './json-bytes.js';

/** Reads strings from a JSON list, of lists or not. */
export class StringReader {
  readonly #bytes: Buffer;
  readonly #where: string;
  readonly #end: number;
  #at: number;
  #depth = 0;
  #expectsValue = true;
  #mayEnd = false;

  /** @param where names the list in messages. */
  constructor(where: string, bytes: Buffer, start: number, end: number) {
    this.#where = where;
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  /**
   * Adds up to so many strings.
   *
   * @returns whether the list has ended.
   * @throws InfermuxError `INVALID_ARGUMENT` for anything else than lists of strings.
   */
  read(strings: string[], most: number): boolean {
    const bytes = this.#bytes;
    const full = strings.length + most;
    for (;;) {
      while (this.#at < this.#end && isSpace(bytes[this.#at])) this.#at += 1;
      if (this.#at >= this.#end) break;
      const byte = bytes[this.#at];
      const isInList = this.#depth > 0;
      if (byte === BYTE.openList && this.#expectsValue) {
        this.#depth += 1;
        this.#mayEnd = true;
        this.#at += 1;
      } else if (byte === BYTE.closeList && isInList && (this.#mayEnd || !this.#expectsValue)) {
        this.#depth -= 1;
        this.#expectsValue = false;
        this.#at += 1;
      } else if (byte === BYTE.comma && isInList && !this.#expectsValue) {
        this.#expectsValue = true;
        this.#mayEnd = false;
        this.#at += 1;
      } else if (byte === BYTE.quote && this.#expectsValue) {
        if (strings.length === full) return false;
        strings.push(this.#string(strings.length));
        this.#expectsValue = false;
      } else throw this.#invalid(this.#expectsValue ? 'a string' : 'a comma or the end of the list', strings.length);
    }
    if (this.#depth > 0 || this.#expectsValue) throw this.#invalid('the end of the list', strings.length);
    return true;
  }

  #string(index: number): string {
    const end = endOfString(this.#bytes, this.#at);
    try {
      const text = JSON.parse(this.#bytes.toString('utf8', this.#at, end)) as string;
      this.#at = end;
      return text;
    } catch {
      throw this.#invalid('a string', index);
    }
  }

  #invalid(expected: string, index: number): InfermuxError {
    const got = JSON.stringify(this.#bytes.toString('utf8', this.#at, Math.min(this.#at + 20, this.#end)));
    return new InfermuxError(
      'INVALID_ARGUMENT',
      `${this.#where}: expected ${expected} at element ${index}, got ${got}`,
    );
  }
}
