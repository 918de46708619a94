import { randomUUID } from 'node:crypto';
import { lstat, mkdir, open, readdir, rename, rm, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { show } from '../../common/errors.js';
import { isSticky, type Ownership, otherWriters, thisUser } from '../../common/files/other-writers.js';
import { readTextFile } from '../../common/files/read-file.js';
import { isUnanswered, undefinedIfNotThere } from '../../common/files/system-errors.js';
import { tryLock } from '../../common/files/thread-lock.js';
import { ABANDONED_MS, createFile, syncFolder } from '../../common/files/write-file.js';
import type { WeightStoreSettings } from '../../protocol/messages.js';
import type { FileHashes } from './file-hashes.js';
import { RememberedHashes } from './remembered-hashes.js';

/** Raise it when the form of an entry changes. */
export const STORE_FORMAT = 1;
const INDEX = 'entry.json';
/** The file of {@link RememberedHashes}. */
const HASHES = 'hashes.json';
/** Names of entries and of temporary folders. Keys are SHA-256 in hexadecimal digits. */
const OWN_NAME = /^[\da-f]{64}(\..+\.tmp)?$/;
const WAIT_MS = 50;
/** A load waits so long at most for another thread that builds the entry: then a load without the store is better. */
const LONGEST_WAIT_MS = 60_000;
/** After this time a declined model is tried again: the reason, for instance a lack of space, may be gone. */
const DECLINED_MS = 86_400_000;

/** A model's entry in the store. */
export interface StoreEntry {
  readonly folder: string;
  /** Why the model is better loaded without the store; the entry then holds nothing but this reason. */
  readonly declined: string | undefined;
}

/** Returns the hashes that the engines which use this store remember. */
export function rememberedHashes({ directory }: WeightStoreSettings): RememberedHashes {
  return new RememberedHashes(join(directory, HASHES));
}

/** Writes the files of an entry into the folder, or returns why there should be none. */
type Build = (folder: string) => Promise<string | undefined>;

/** How a thread builds entries. */
export interface StoreWork {
  /** Called before an entry is built, with all that is left behind should the process end meanwhile. */
  readonly building?: (paths: readonly string[]) => Promise<void>;
  /** Longest wait for another thread that builds the entry, in milliseconds. Default: a minute. */
  readonly longestWaitMs?: number;
}

interface Index {
  readonly format: number;
  readonly declined?: string;
  /** Milliseconds, as `Date.now()`. */
  readonly builtAt: number;
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

/**
 * Folders of files by key, a SHA-256. Each is written once, by one thread of one process at a time: in a temporary
 * folder that is then renamed into place. All sessions map the files. No file is changed in place, so a mapped file
 * stays whole.
 */
export class WeightStore {
  readonly #directory: string;
  readonly #maxBytes: number;
  readonly #hashes: FileHashes;
  readonly #building: (paths: readonly string[]) => Promise<void>;
  readonly #longestWaitMs: number;

  constructor(
    { directory, maxBytes }: WeightStoreSettings,
    hashes: FileHashes,
    { building = async () => undefined, longestWaitMs = LONGEST_WAIT_MS }: StoreWork = {},
  ) {
    this.#directory = directory;
    this.#maxBytes = maxBytes;
    this.#hashes = hashes;
    this.#building = building;
    this.#longestWaitMs = longestWaitMs;
  }

  /**
   * Returns the entry of this key if it can be used without reading its files, because they were read before and are
   * the same by inode, size and times.
   *
   * @throws Error when the system cannot say, or when others may write the store.
   */
  async known(key: string): Promise<StoreEntry | undefined> {
    const found = await stat(this.#directory).catch(undefinedIfNotThere);
    if (found === undefined) return undefined;
    checkTrusted(this.#directory, found);
    return this.#intact(key, (path) => this.#hashes.known(path));
  }

  /**
   * Returns the entry of this key. It is built now if there is none or it is damaged.
   *
   * @param build writes the files into the folder, or returns why the model is better loaded without the store.
   * @param checkGoOn throws when the wait for another thread should end.
   * @throws Error when the store cannot be read or written, or when others may write it.
   */
  async find(key: string, build: Build, checkGoOn: () => void = () => undefined): Promise<StoreEntry> {
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    checkTrusted(this.#directory, await stat(this.#directory));
    for (const startedAt = Date.now(); ; ) {
      const found = await this.#intact(key);
      if (found !== undefined) return found;
      const unlock = await tryLock(this.#lock(key));
      if (unlock !== undefined) {
        try {
          return (await this.#intact(key)) ?? (await this.#build(key, build));
        } finally {
          await unlock();
        }
      }
      if (Date.now() - startedAt > this.#longestWaitMs)
        throw new Error(`another thread has been building entry ${key} for ${this.#longestWaitMs} ms`);
      await sleep(WAIT_MS);
      checkGoOn();
    }
  }

  /** Replaces the entry by the reason not to use it. Call it when the stored files turn out to be of no use. */
  async decline(key: string, reason: string): Promise<void> {
    const unlock = await tryLock(this.#lock(key));
    if (unlock === undefined) return;
    await this.#build(key, async () => reason).finally(unlock);
  }

  async #discard(key: string): Promise<void> {
    const dead = this.#temporary(key);
    await rename(join(this.#directory, key), dead).catch(() => undefined);
    await rm(dead, { recursive: true, force: true });
  }

  async #build(key: string, build: Build): Promise<StoreEntry> {
    await this.#discard(key);
    // The holder of the lock is alone here: other temporary folders were left by processes that were killed.
    const left = (await readdir(this.#directory)).filter((name) => name.startsWith(`${key}.`) && name.endsWith('.tmp'));
    for (const name of left) await rm(join(this.#directory, name), { recursive: true, force: true });
    const temporary = this.#temporary(key);
    await this.#building([temporary, this.#lock(key)]);
    try {
      await mkdir(temporary, { mode: 0o700 });
      const declined = await build(temporary);
      if (declined !== undefined) await empty(temporary);
      const files = await this.#describe(temporary);
      const index: Index = {
        format: STORE_FORMAT,
        builtAt: Date.now(),
        files,
        ...(declined === undefined ? {} : { declined }),
      };
      await createFile(join(temporary, INDEX), JSON.stringify(index), 0o600);
      await rename(temporary, join(this.#directory, key));
      await syncFolder(this.#directory);
      await this.#prune(key);
      return { folder: join(this.#directory, key), declined };
    } catch (error) {
      await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
      throw error;
    }
  }

  /** @param hashOf returns undefined for a file that is not looked into now. */
  async #intact(
    key: string,
    hashOf: (path: string) => Promise<string | undefined> = (path) => this.#hashes.of(path),
  ): Promise<StoreEntry | undefined> {
    const folder = join(this.#directory, key);
    try {
      const found = await lstat(folder);
      // Its files say what the models answer, and its index is only as true as whoever wrote it.
      if (!found.isDirectory() || otherWriters(found, thisUser()) !== undefined) return undefined;
      const { text } = await readTextFile(join(folder, INDEX));
      const { format, builtAt, files, declined } = JSON.parse(text) as Index;
      if (format !== STORE_FORMAT) return undefined;
      if (declined !== undefined && Date.now() - builtAt > DECLINED_MS) return undefined;
      for (const [name, { bytes, sha256 }] of Object.entries(files)) {
        const path = join(folder, name);
        // The size reveals a file that was cut short before gigabytes are read.
        if ((await stat(path)).size !== bytes || (await hashOf(path)) !== sha256) return undefined;
      }
      const now = new Date();
      await utimes(join(folder, INDEX), now, now).catch(() => undefined);
      return { folder, declined };
    } catch (error) {
      // An entry is built anew when it is not there or damaged, and not when the system cannot say.
      if (isUnanswered(error)) throw error;
      return undefined;
    }
  }

  async #describe(folder: string): Promise<Index['files']> {
    const files: Record<string, { bytes: number; sha256: string }> = {};
    for (const name of await readdir(folder)) {
      const path = join(folder, name);
      await syncFile(path);
      files[name] = { bytes: (await stat(path)).size, sha256: await this.#hashes.of(path) };
    }
    return files;
  }

  /**
   * Removes abandoned folders, and the least recently used entries beyond the bound. Mapped files stay mapped. What
   * cannot be looked at now is left to a later call.
   */
  async #prune(keep: string): Promise<void> {
    const entries: { name: string; bytes: number; usedAt: number }[] = [];
    for (const name of await readdir(this.#directory)) {
      const path = join(this.#directory, name);
      const found = await stat(path).catch(() => undefined);
      // The folder may hold files of others.
      if (!OWN_NAME.test(name) || found?.isDirectory() !== true || name === keep) continue;
      if (name.endsWith('.tmp')) {
        if (Date.now() - found.mtimeMs > ABANDONED_MS) await rm(path, { recursive: true, force: true });
        continue;
      }
      try {
        const index = await stat(join(path, INDEX)).catch(undefinedIfNotThere);
        entries.push({ name, bytes: await bytesIn(path), usedAt: index?.mtimeMs ?? 0 });
      } catch (error) {
        if (!isUnanswered(error)) throw error;
      }
    }
    let total = (await bytesIn(join(this.#directory, keep))) + entries.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { name, bytes } of entries.sort((left, right) => left.usedAt - right.usedAt)) {
      if (total <= this.#maxBytes) return;
      await this.#discard(name);
      total -= bytes;
    }
  }

  #lock(key: string): string {
    return join(this.#directory, `${key}.lock`);
  }

  #temporary(key: string): string {
    return join(this.#directory, `${key}.${randomUUID()}.tmp`);
  }
}

/**
 * Returns why a store is not used; undefined when it is. Whoever may write it decides what the models answer. A group
 * may: somebody has given it that right. In a sticky folder nobody else may change the entries of this user.
 *
 * @param user as in {@link otherWriters}.
 */
export function whyNotTrusted(directory: string, found: Ownership, user: number | undefined): string | undefined {
  const others = otherWriters(found, user);
  if (others === undefined || others.who === 'group' || (others.who === 'anybody' && isSticky(found))) return undefined;
  const advice = others.who === 'owner' ? 'name a folder of this user' : 'use chmod go-w on it, or name a folder in it';
  return `the weight store ${show(directory)} ${others.what}: ${advice} in options.weightStore.directory`;
}

/** @throws Error with the refusal of {@link whyNotTrusted}. */
function checkTrusted(directory: string, found: Ownership): void {
  const refusal = whyNotTrusted(directory, found, thisUser());
  if (refusal !== undefined) throw new Error(refusal);
}

async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  for (const name of (await readdir(folder).catch(undefinedIfNotThere)) ?? []) {
    bytes += (await stat(join(folder, name)).catch(undefinedIfNotThere))?.size ?? 0;
  }
  return bytes;
}

async function empty(folder: string): Promise<void> {
  for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true, force: true });
}

async function syncFile(path: string): Promise<void> {
  const handle = await open(path, 'r+');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
