import { createHash } from 'node:crypto';

const HASH_BYTES = 6;

/** A point from 0 to below 1 that is always the same for the same words, and evenly spread over all of them. */
export function hashPoint(...words: readonly string[]): number {
  const hash = createHash('sha256').update(words.join('\0')).digest();
  return hash.readUIntBE(0, HASH_BYTES) / 2 ** (8 * HASH_BYTES);
}
