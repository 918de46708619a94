import { dirname } from 'node:path';
import { otherWriters, thisUser } from '../../common/files/other-writers.js';
import { readTextFile } from '../../common/files/read-file.js';
import { undefinedIfNotThere } from '../../common/files/system-errors.js';
import { removeAbandoned, replaceFile } from '../../common/files/write-file.js';
import { isLasting } from './file-hashes.js';

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

  /** Returns the hash in hexadecimal digits; undefined also when the list cannot be read: then the file itself tells. */
  async get(state: Uint8Array): Promise<string | undefined> {
    if (!isLasting(state)) return undefined;
    this.#read ??= this.#readAll().catch(() => new Map());
    return (await this.#read).get(digitsOf(state));
  }

  /**
   * Writes these hashes down. Of two processes that do so at once, one may lose its own, which costs a reading of the files.
   *
   * @param writing called with all that is left behind should the process end meanwhile.
   * @throws Error of the file system.
   */
  async add(
    hashes: Iterable<readonly [Uint8Array, Uint8Array]>,
    writing: (paths: readonly string[]) => Promise<void> = async () => undefined,
  ): Promise<void> {
    const all = new Map(await this.#readAll().catch(() => []));
    for (const [state, hash] of hashes) {
      const key = digitsOf(state);
      all.delete(key);
      if (isLasting(state)) all.set(key, digitsOf(hash));
    }
    await removeAbandoned(dirname(this.#path));
    await replaceFile(this.#path, JSON.stringify([...all].slice(-MOST)), 0o600, (path) => writing([path]));
  }

  async #readAll(): Promise<Map<string, string>> {
    const found = await readTextFile(this.#path, MOST_BYTES).catch(undefinedIfNotThere);
    if (found === undefined || otherWriters(found.stats, thisUser()) !== undefined) return new Map();
    const pairs = JSON.parse(found.text) as [string, string][];
    return new Map(pairs.filter((pair) => pair.every((each) => SHA_256.test(each))));
  }
}

function digitsOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
