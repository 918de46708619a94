/** Bytes of a JSON text that its readers know. */
export const BYTE = {
  quote: 0x22,
  backslash: 0x5c,
  openObject: 0x7b,
  closeObject: 0x7d,
  openList: 0x5b,
  closeList: 0x5d,
  comma: 0x2c,
  colon: 0x3a,
  minus: 0x2d,
  plus: 0x2b,
  dot: 0x2e,
  zero: 0x30,
  nine: 0x39,
  e: 0x65,
  E: 0x45,
} as const;

export function isSpace(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** Whether the byte may be in a word like `true`, `NaN` or `-Infinity`. */
export function isWordByte(byte: number | undefined): boolean {
  return byte !== undefined && ((byte >= 0x61 && byte <= 0x7a) || (byte >= 0x41 && byte <= 0x5a));
}

/** Returns the index after a string's closing quote; after the last byte if there is none. @param start of its opening quote. */
export function endOfString(bytes: Buffer, start: number): number {
  let at = start + 1;
  for (;;) {
    const quote = bytes.indexOf(BYTE.quote, at);
    if (quote === -1) return bytes.length;
    let backslashes = 0;
    while (bytes[quote - 1 - backslashes] === BYTE.backslash && quote - 1 - backslashes > start) backslashes += 1;
    // The characters of an escape come in pairs.
    if (backslashes % 2 === 0) return quote + 1;
    at = quote + 1;
  }
}
