import { otherWriters, thisUser } from '../../common/files/other-writers.js';
import { readTextFile } from '../../common/files/read-file.js';
import { undefinedIfNotThere } from '../../common/files/system-errors.js';
import { replaceFile } from '../../common/files/write-file.js';

/** Most files; the ones that were remembered last. */
const MOST = 1_024;
const MOST_BYTES = 2 ** 20;
const SHA_256 = /^[\da-f]{64}$/;

/**
 * Hashes of files that an engine has read, for the engines after it: a file of the store that lists them by the state of
 * the hashed file, its inode, size and times among it. Whoever may write the list decides what is loaded, so nobody else
 * may.
 */
export class RememberedHashes {
  readonly #path: string;
  /** In hexadecimal digits, by state. Read once, so that a load looks at no file that it does not need. */
  #read: Promise<ReadonlyMap<string, string>> | undefined;

  constructor(path: string) {
    this.#path = path;
  }

  /** Returns undefined also when the list cannot be read: then the file itself tells. */
  async get(state: Uint8Array): Promise<Uint8Array | undefined> {
    this.#read ??= this.#readAll().catch(() => new Map());
    const hash = (await this.#read).get(Buffer.from(state).toString('hex'));
    return hash === undefined ? undefined : Buffer.from(hash, 'hex');
  }

  /**
   * Writes these hashes down. Of two processes that do so at once, one may lose its own, which costs a reading of the files.
   *
   * @throws Error of the file system.
   */
  async add(hashes: Iterable<readonly [Uint8Array, Uint8Array]>): Promise<void> {
    const all = new Map(await this.#readAll().catch(() => []));
    for (const [state, hash] of hashes) {
      const key = Buffer.from(state).toString('hex');
      all.delete(key);
      all.set(key, Buffer.from(hash).toString('hex'));
    }
    await replaceFile(this.#path, JSON.stringify([...all].slice(-MOST)), 0o600);
  }

  async #readAll(): Promise<Map<string, string>> {
    const found = await readTextFile(this.#path, MOST_BYTES).catch(undefinedIfNotThere);
    if (found === undefined || otherWriters(found.stats, thisUser()) !== undefined) return new Map();
    const pairs = JSON.parse(found.text) as [string, string][];
    return new Map(pairs.filter((pair) => pair.every((each) => SHA_256.test(each))));
  }
}
