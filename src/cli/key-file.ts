import { readFileSync } from 'node:fs';
import { InfermuxError } from '../index.js';
import { messageOf } from './terminal/printable.js';

/** Returns the first key of a key file. @throws InfermuxError `INVALID_ARGUMENT` for a file without a key. */
export function firstKey(path: string): string {
  try {
    const [key = ''] = readFileSync(path, 'utf8').split(/\r?\n/);
    if (key.trim() !== '') return key.trim();
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `the key file ${path} cannot be read: ${messageOf(cause)}`, { cause });
  }
  throw new InfermuxError('INVALID_ARGUMENT', `the key file ${path} has no key on its first line`);
}
