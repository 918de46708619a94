import { createHash } from 'node:crypto';
import { ERROR_CODES, type ErrorCode } from '../../common/errors.js';
import { cut, printableLines } from '../../common/values/printable.js';
import { type Labels, OTHER } from '../series/lines.js';

/** Most characters of a label's value. A model's id is in some fifty lines, and may be as long as a file's name. */
const MOST_CHARACTERS = 64;
const HASH_DIGITS = 10;

/** Returns the labels as a scrape shows them; the same object if all values can be shown as they are. */
export function shownLabels(labels: Labels): Labels {
  for (const name in labels) {
    const value = labels[name] as string;
    if (shownValue(value) === value) continue;
    return Object.fromEntries(Object.entries(labels).map(([each, own]) => [each, shownValue(own)]));
  }
  return labels;
}

/**
 * Returns a value that is short and can be printed. Another one than the given one ends with a hash of that, so that two
 * names never share a value: a scrape with the same series twice is refused.
 */
function shownValue(value: string): string {
  // The format of the text has an escape for a line feed.
  const shown = printableLines(cut(value, MOST_CHARACTERS));
  if (shown === value) return value;
  // Not as UTF-8, which has one replacement for all halves of surrogate pairs.
  const hash = createHash('sha256').update(Buffer.from(value, 'utf16le')).digest('hex').slice(0, HASH_DIGITS);
  return `${cut(shown, MOST_CHARACTERS - HASH_DIGITS - 1)}#${hash}`;
}

/** Returns the label of an error's code. A handler may throw errors with codes of its own, any number of them. */
export function labelOf(code: ErrorCode): string {
  return Object.hasOwn(ERROR_CODES, code) ? code : OTHER;
}
