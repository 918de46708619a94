import { createHash } from 'node:crypto';

const HASH_BYTES = 6;

/** Returns a point in [0, 1) that depends on the words alone; the points of different words are evenly spread. */
export function hashPoint(...words: readonly string[]): number {
  const hash = createHash('sha256').update(words.join('\0')).digest();
  return hash.readUIntBE(0, HASH_BYTES) / 2 ** (8 * HASH_BYTES);
}
