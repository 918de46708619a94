import { readFileSync } from 'node:fs';
import { InfermuxError } from '../index.js';

/** Returns the first key of a file of keys. @throws InfermuxError `INVALID_ARGUMENT` for a file without a key. */
export function firstKey(path: string): string {
  try {
    const [key = ''] = readFileSync(path, 'utf8').split(/\r?\n/);
    if (key.trim() !== '') return key.trim();
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `the file of keys ${path} cannot be read`, { cause });
  }
  throw new InfermuxError('INVALID_ARGUMENT', `the file of keys ${path} has no key on its first line`);
}
