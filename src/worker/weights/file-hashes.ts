import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { HashMemory } from '../../protocol/hash-memory.js';
import type { RememberedHashes } from './remembered-hashes.js';

const CHUNK_BYTES = 2 ** 20;

/**
 * SHA-256 of files and of models in memory. A thread finds in shared memory what another one has hashed, as long as the
 * file is the same by its inode, size and times. Of the times, that of the last change (ctime) cannot be set back.
 */
export class FileHashes {
  readonly #known: HashMemory;
  readonly #remembered: RememberedHashes | undefined;

  /** @param remembered what engines before this one have hashed: good enough for {@link known}. */
  constructor(known: HashMemory, remembered?: RememberedHashes) {
    this.#known = known;
    this.#remembered = remembered;
  }

  /** Returns the hash in hexadecimal digits. @throws Error when the file cannot be read. */
  async of(path: string): Promise<string> {
    const state = await stateOf(path);
    return this.#recall(state) ?? this.#remember(state, await hashOf(path));
  }

  /** Returns the hash without reading the file; undefined when nobody has hashed it. @throws Error when it is gone. */
  async known(path: string): Promise<string | undefined> {
    const state = await stateOf(path);
    const known = this.#recall(state);
    if (known !== undefined || this.#remembered === undefined) return known;
    const remembered = await this.#remembered.get(state);
    return remembered && this.#remember(state, remembered);
  }

  /** Returns the hash of a model in memory. @param key names it: one key never stands for other bytes. */
  ofContents(key: string, contents: SharedArrayBuffer): string {
    const state = stateOfContents(key);
    const hash = () => createHash('sha256').update(new Uint8Array(contents)).digest();
    return this.#recall(state) ?? this.#remember(state, hash());
  }

  /** Returns what {@link ofContents} has found; undefined when nobody has hashed them. */
  knownContents(key: string): string | undefined {
    return this.#recall(stateOfContents(key));
  }

  #recall(state: Uint8Array): string | undefined {
    const known = this.#known.get(state);
    return known && Buffer.from(known).toString('hex');
  }

  #remember(state: Uint8Array, hash: Uint8Array): string {
    this.#known.set(state, hash);
    return Buffer.from(hash).toString('hex');
  }
}

/** Identifies a file and its state. */
async function stateOf(path: string): Promise<Uint8Array> {
  const found = await stat(path, { bigint: true });
  // Reading a device may never end.
  if (!found.isFile()) throw new Error(`${path} is not a file`);
  const { dev, ino, size, mtimeNs, ctimeNs } = found;
  return createHash('sha256').update([dev, ino, size, mtimeNs, ctimeNs].join()).digest();
}

function stateOfContents(key: string): Uint8Array {
  return createHash('sha256').update(`in memory: ${key}`).digest();
}

async function hashOf(path: string): Promise<Buffer> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) hash.update(chunk as Buffer);
  return hash.digest();
}
