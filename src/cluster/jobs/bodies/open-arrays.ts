import { stat } from 'node:fs/promises';
import { type NpyArray, openNpy } from './npy-file.js';

/** How long a file stays open that no job reads. */
const IDLE_MS = 1_000;
/** Where more are open, such a file is closed at once. */
const MANY = 256;

interface Entry {
  /** Which file it is: another one may be put in its place. */
  readonly identity: string;
  readonly opening: Promise<NpyArray>;
  users: number;
  closing: NodeJS.Timeout | undefined;
}

/** An array that is open as long as it is used. */
export interface UsedArray {
  readonly array: NpyArray;
  release(): void;
}

/** Keeps files open that many jobs read: to open one and to read its header takes longer than to read the rows of a job. */
export class OpenArrays {
  readonly #entries = new Map<string, Entry>();
  readonly #find: (path: string) => Promise<string>;

  /** @param find checks a path when its file is to be opened, and returns the path of the file itself. */
  constructor(find: (path: string) => Promise<string>) {
    this.#find = find;
  }

  async use(path: string): Promise<UsedArray> {
    const found = await stat(path).catch(() => undefined);
    const identity = found === undefined ? 'none' : [found.dev, found.ino, found.size, found.mtimeMs].join();
    let entry = this.#entries.get(path);
    if (entry?.identity !== identity) {
      entry = { identity, opening: this.#find(path).then(openNpy), users: 0, closing: undefined };
      this.#entries.set(path, entry);
    }
    const own = entry;
    own.users += 1;
    clearTimeout(own.closing);
    try {
      return { array: await own.opening, release: () => this.#release(path, own) };
    } catch (cause) {
      if (this.#entries.get(path) === own) this.#entries.delete(path);
      throw cause;
    }
  }

  #release(path: string, entry: Entry): void {
    entry.users -= 1;
    if (entry.users > 0) return;
    const close = async () => {
      if (this.#entries.get(path) === entry) this.#entries.delete(path);
      await (await entry.opening).close();
    };
    // Nothing is to be done about a file that cannot be closed.
    const closing = () => void close().catch(() => undefined);
    if (this.#entries.size > MANY) closing();
    else entry.closing = setTimeout(closing, IDLE_MS).unref();
  }
}
