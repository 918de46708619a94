import { InfermuxError } from '../../common/errors.js';

/** Far deeper than anybody nests; `JSON.parse` takes seconds for millions of levels. */
const MOST_DEPTH = 1_000;

const QUOTE = 0x22;
const COMMA = 0x2c;
const BACKSLASH = 0x5c;

const isOpening = (byte: number) => byte === 0x5b || byte === 0x7b;
const isClosing = (byte: number) => byte === 0x5d || byte === 0x7d;

/**
 * Counts the values in a JSON text, about, without parsing it: each takes far more memory than bytes in the text.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a text that is nested too deep.
 */
export function countJsonValues(bytes: Uint8Array): number {
  let values = 1;
  let depth = 0;
  for (let at = 0; at < bytes.length; at += 1) {
    const byte = bytes[at] as number;
    if (byte === QUOTE) at = endOfString(bytes, at);
    else if (byte === COMMA) values += 1;
    else if (isClosing(byte)) depth -= 1;
    else if (isOpening(byte)) {
      values += 1;
      depth += 1;
      if (depth > MOST_DEPTH) throw tooDeep();
    }
  }
  return values;
}

function tooDeep(): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', `the JSON must have at most ${MOST_DEPTH} levels`);
}

/** The index of the quote that ends the string, or of the end of the text. */
function endOfString(bytes: Uint8Array, start: number): number {
  for (let at = start + 1; at < bytes.length; at += 1) {
    if (bytes[at] === BACKSLASH) at += 1;
    else if (bytes[at] === QUOTE) return at;
  }
  return bytes.length;
}
