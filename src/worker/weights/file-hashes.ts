import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { HashMemory } from '../../protocol/hash-memory.js';
import type { RememberedHashes } from './remembered-hashes.js';

const CHUNK_BYTES = 2 ** 20;
const NS_PER_SECOND = 1_000_000_000n;
/** The bit of a state that tells whether it is of one file for good. */
const LASTING = 1;

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
    return this.#recall(state) ?? this.#remember(state, await hashOfFile(path));
  }

  /** Returns the hash without reading the file; undefined when nobody has hashed it. @throws Error when it is gone. */
  async known(path: string): Promise<string | undefined> {
    const state = await stateOf(path);
    // What was remembered is not put where `of` looks: that vouches for what this engine has read.
    return this.#recall(state) ?? this.#remembered?.get(state);
  }

  /** Returns the hash of a model in memory. @param key names it: one key never stands for other bytes. */
  ofContents(key: string, contents: SharedArrayBuffer): string {
    const state = stateOfContents(key);
    return this.#recall(state) ?? this.#remember(state, hashOf(new Uint8Array(contents)));
  }

  /** Returns what {@link ofContents} has found; undefined when nobody has hashed them. */
  knownContents(key: string): string | undefined {
    return this.#recall(stateOfContents(key));
  }

  #recall(state: Uint8Array): string | undefined {
    const known = this.#known.get(state);
    return known && Buffer.from(known).toString('hex');
  }

  #remember(state: Uint8Array, hash: Buffer): string {
    this.#known.set(state, hash);
    return hash.toString('hex');
  }
}

/**
 * Whether the state of a file is of no other file for good. Times in whole seconds are what images of disks have, whose
 * files all look alike from one image to the next.
 */
export function isLasting(state: Uint8Array): boolean {
  return ((state.at(-1) as number) & LASTING) !== 0;
}

/** Identifies a file and its state: a hash, whose last bit says whether it {@link isLasting}. */
async function stateOf(path: string): Promise<Uint8Array> {
  const found = await stat(path, { bigint: true });
  // Reading a device may never end.
  if (!found.isFile()) throw new Error(`${path} is not a file`);
  const { dev, ino, size, mtimeNs, ctimeNs } = found;
  return marked(hashOf([dev, ino, size, mtimeNs, ctimeNs].join()), ctimeNs % NS_PER_SECOND !== 0n);
}

/** Another engine may have other bytes by this key. */
function stateOfContents(key: string): Uint8Array {
  return marked(hashOf(`in memory: ${key}`), false);
}

function marked(state: Buffer, lasts: boolean): Uint8Array {
  const last = state.length - 1;
  state[last] = ((state[last] as number) & ~LASTING) | (lasts ? LASTING : 0);
  return state;
}

function hashOf(data: string | Uint8Array): Buffer {
  return createHash('sha256').update(data).digest();
}

async function hashOfFile(path: string): Promise<Buffer> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) hash.update(chunk as Buffer);
  return hash.digest();
}
