import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { HashMemory } from '../../protocol/hash-memory.js';

const CHUNK_BYTES = 2 ** 20;

/**
 * SHA-256 of files. A thread finds in shared memory what another one has hashed, as long as the file is the same by its
 * inode, size and times. Of the times, that of the last change (ctime) cannot be set back.
 */
export class FileHashes {
  readonly #known: HashMemory;

  constructor(known: HashMemory) {
    this.#known = known;
  }

  /** Returns the hash in hexadecimal digits. @throws Error when the file cannot be read. */
  async of(path: string): Promise<string> {
    const found = await stat(path, { bigint: true });
    // Reading a device may never end.
    if (!found.isFile()) throw new Error(`${path} is not a file`);
    const { dev, ino, size, mtimeNs, ctimeNs } = found;
    const state = createHash('sha256').update([dev, ino, size, mtimeNs, ctimeNs].join()).digest();
    const known = this.#known.get(state);
    if (known !== undefined) return Buffer.from(known).toString('hex');
    const hash = createHash('sha256');
    for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) hash.update(chunk as Buffer);
    const digest = hash.digest();
    this.#known.set(state, digest);
    return digest.toString('hex');
  }
}
