import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

/** The directory of the package's models. */
export const MODELS = fileURLToPath(new URL('../../../native-models', import.meta.url));

/** Where the handwritten digits lie in the package. */
export const DIGITS_FILE = new URL('../../../native-models/data/digits.csv.gz', import.meta.url);

/** Pixels of one digit: 8×8, row by row. */
export const PIXELS = 64;

export interface Digit {
  /** 64 values, 0 (paper) to 16 (ink). */
  readonly pixels: Float32Array;
  /** 0 to 9. */
  readonly label: number;
  /** True for the fifth of the rows that no model was trained on. */
  readonly unseen: boolean;
}

/** Reads the handwritten digits. Every fifth row is kept from training, so that accuracy can be measured on it. */
export function readDigits(file: URL = DIGITS_FILE): Digit[] {
  const rows = gunzipSync(readFileSync(file)).toString('utf8').trim().split('\n');
  return rows.map((row, index) => {
    const values = row.split(',').map(Number);
    return {
      pixels: Float32Array.from(values.slice(0, PIXELS)),
      label: values[PIXELS] ?? Number.NaN,
      unseen: index % 5 === 4,
    };
  });
}
