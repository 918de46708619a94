import { InfermuxError } from '../../common/errors.js';
import { BYTE, isSpace, isWordByte } from './json-bytes.js';

/** Powers of ten that a double holds exactly. */
const POWERS = Array.from({ length: 23 }, (_, exponent) => 10 ** exponent);
const MOST_EXPONENT = 22;
/** No number needs more. */
const MOST_CHARACTERS = 1_024;
/** Every integer of so many digits is exact in a double. */
const EXACT_DIGITS = 15;
/** Digits beyond these change a double by less than its last bit. */
const USED_DIGITS = 19;
const LEAST_SINGLE = 1e-37;

const WORDS: Readonly<Record<string, number>> = {
  NaN: Number.NaN,
  Infinity: Number.POSITIVE_INFINITY,
  '-Infinity': Number.NEGATIVE_INFINITY,
};
const BOOLEANS: Readonly<Record<string, number>> = { true: 1, false: 0 };

const double = new Float64Array(1);
const words = new Uint32Array(double.buffer);

/**
 * Whether the double is so close to the middle of two float32 numbers that an error in its last bits could change the
 * nearer one.
 */
function isNearMiddle(value: number): boolean {
  double[0] = value;
  return Math.abs(((words[0] as number) & 0x1fffffff) - 0x10000000) <= 16;
}

/** What is expected next. */
const VALUE = 0;
const VALUE_OR_END = 1;
const COMMA_OR_END = 2;
const NOTHING = 3;

/** The elements that a list may have beside numbers. */
export interface NumberForm {
  /** Whether the numbers become float32: then the nearest one is found without all digits. */
  readonly isSingle: boolean;
  /** Whether `true` and `false` are elements. */
  readonly isBoolean: boolean;
  /** Integers that a double may not hold are written here, at the index of their element. */
  readonly large: ((index: number, value: bigint) => void) | undefined;
}

/**
 * Reads numbers from a JSON list, of lists or not, without making an object of each. `NaN`, `Infinity` and `-Infinity`
 * are numbers too, since Triton and Python write them.
 *
 * A number with up to 15 digits and a power of ten up to 22 is exact after one multiplication or division (William D.
 * Clinger, "How to read floating point numbers accurately", 1990). Others are read by `Number`, unless they become
 * float32 and the error of the quick way cannot matter.
 */
export class NumberReader {
  readonly #bytes: Buffer;
  readonly #where: string;
  readonly #end: number;
  readonly #form: NumberForm;
  #at: number;
  #depth = 0;
  #expected: number = VALUE;
  /** Elements that were read before. */
  #count = 0;

  /** @param where names the list in messages. */
  constructor(where: string, bytes: Buffer, start: number, end: number, form: NumberForm) {
    this.#where = where;
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    this.#form = form;
  }

  /**
   * Reads numbers until the chunk is full or the list ends.
   *
   * @returns how many; fewer than the chunk holds at the end of the list.
   * @throws InfermuxError `INVALID_ARGUMENT` for anything else than lists of numbers.
   */
  fill(chunk: Float64Array): number {
    const bytes = this.#bytes;
    let filled = 0;
    for (;;) {
      while (this.#at < this.#end && isSpace(bytes[this.#at])) this.#at += 1;
      if (this.#at >= this.#end) break;
      const byte = bytes[this.#at] as number;
      if (this.#expected <= VALUE_OR_END) {
        if (byte === BYTE.openList) {
          this.#depth += 1;
          this.#expected = VALUE_OR_END;
          this.#at += 1;
        } else if (byte === BYTE.closeList && this.#expected === VALUE_OR_END) {
          this.#close();
        } else {
          if (filled === chunk.length) return filled;
          chunk[filled] = this.#number(byte);
          filled += 1;
          this.#count += 1;
          this.#expected = this.#depth === 0 ? NOTHING : COMMA_OR_END;
        }
      } else if (this.#expected === COMMA_OR_END && byte === BYTE.comma) {
        this.#expected = VALUE;
        this.#at += 1;
      } else if (this.#expected === COMMA_OR_END && byte === BYTE.closeList) {
        this.#close();
      } else {
        throw this.#invalid('a comma or the end of the list');
      }
    }
    if (this.#expected !== NOTHING) throw this.#invalid('the end of the list');
    return filled;
  }

  #close(): void {
    this.#depth -= 1;
    this.#expected = this.#depth === 0 ? NOTHING : COMMA_OR_END;
    this.#at += 1;
  }

  #number(first: number): number {
    const bytes = this.#bytes;
    const start = this.#at;
    let at = start;
    let byte: number | undefined = first;
    if (byte === BYTE.minus) {
      at += 1;
      byte = bytes[at];
    }
    const firstDigit = at;
    let mantissa = 0;
    let used = 0;
    let exponent = 0;
    let digits = 0;
    while (byte !== undefined && byte >= BYTE.zero && byte <= BYTE.nine) {
      if (used < USED_DIGITS) {
        mantissa = mantissa * 10 + (byte - BYTE.zero);
        // Zeros at the beginning are no digits.
        if (mantissa !== 0) used += 1;
      } else exponent += 1;
      digits += 1;
      at += 1;
      byte = bytes[at];
    }
    if (digits === 0) return this.#word(start);
    if (digits > 1 && bytes[firstDigit] === BYTE.zero) throw this.#invalid('a number without zeros at its beginning');
    let isInteger = true;
    if (byte === BYTE.dot) {
      isInteger = false;
      at += 1;
      byte = bytes[at];
      const fraction = at;
      while (byte !== undefined && byte >= BYTE.zero && byte <= BYTE.nine) {
        if (used < USED_DIGITS) {
          mantissa = mantissa * 10 + (byte - BYTE.zero);
          if (mantissa !== 0) used += 1;
          exponent -= 1;
        }
        at += 1;
        byte = bytes[at];
      }
      if (at === fraction) throw this.#invalid('a digit after the decimal point');
    }
    if (byte === BYTE.e || byte === BYTE.E) {
      isInteger = false;
      const [end, power] = this.#power(at + 1);
      at = end;
      exponent += power;
    }
    this.#at = at;
    const isNegative = first === BYTE.minus;
    if (used <= EXACT_DIGITS && exponent >= -MOST_EXPONENT && exponent <= MOST_EXPONENT) {
      return scaled(isNegative ? -mantissa : mantissa, exponent);
    }
    // A number of millions of digits would take seconds.
    if (at - start > MOST_CHARACTERS) throw this.#invalid(`a number of at most ${MOST_CHARACTERS} characters`);
    if (isInteger && this.#form.large !== undefined) {
      this.#form.large(this.#count, BigInt(this.#text(start, at)));
      return 0;
    }
    if (this.#form.isSingle && exponent >= -MOST_EXPONENT && exponent <= MOST_EXPONENT) {
      const value = scaled(isNegative ? -mantissa : mantissa, exponent);
      if (Math.abs(value) > LEAST_SINGLE && !isNearMiddle(value)) return value;
    }
    return Number(this.#text(start, at));
  }

  /** Reads the digits of a power of ten. @returns where they end, and the power. */
  #power(start: number): readonly [number, number] {
    const bytes = this.#bytes;
    let at = start;
    const sign = bytes[at];
    if (sign === BYTE.minus || sign === BYTE.plus) at += 1;
    const first = at;
    let power = 0;
    for (;;) {
      const byte = bytes[at];
      if (byte === undefined || byte < BYTE.zero || byte > BYTE.nine) break;
      power = Math.min(power * 10 + (byte - BYTE.zero), 1e6);
      at += 1;
    }
    if (at === first) throw this.#invalid('a digit after the e');
    return [at, sign === BYTE.minus ? -power : power];
  }

  #word(start: number): number {
    let end = start + (this.#bytes[start] === BYTE.minus ? 1 : 0);
    while (end < this.#end && isWordByte(this.#bytes[end])) end += 1;
    const word = this.#text(start, end);
    const value = Object.hasOwn(WORDS, word) ? WORDS[word] : this.#boolean(word);
    if (value === undefined) throw this.#invalid(this.#form.isBoolean ? 'true or false' : 'a number');
    this.#at = end;
    return value;
  }

  #boolean(word: string): number | undefined {
    return this.#form.isBoolean && Object.hasOwn(BOOLEANS, word) ? BOOLEANS[word] : undefined;
  }

  #text(start: number, end: number): string {
    return this.#bytes.toString('latin1', start, end);
  }

  #invalid(expected: string): InfermuxError {
    const got = JSON.stringify(this.#bytes.toString('utf8', this.#at, Math.min(this.#at + 20, this.#end)));
    const message = `${this.#where}: expected ${expected} at element ${this.#count}, got ${got}`;
    return new InfermuxError('INVALID_ARGUMENT', message);
  }
}

/** @param exponent of ten, from -22 to 22. */
function scaled(mantissa: number, exponent: number): number {
  return exponent < 0 ? mantissa / (POWERS[-exponent] as number) : mantissa * (POWERS[exponent] as number);
}
