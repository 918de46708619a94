import { randomUUID } from 'node:crypto';
import { mkdir, readdir, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Clock } from '../../common/clock.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { otherWriters, thisUser } from '../../common/files/other-writers.js';
import { readTextFile } from '../../common/files/read-file.js';
import { isUnanswered, undefinedIfNotThere } from '../../common/files/system-errors.js';
import { tryLock } from '../../common/files/thread-lock.js';
import { ABANDONED_MS, removeAbandoned, syncFolder, temporaryIn } from '../../common/files/write-file.js';
import { bytesIn, type CachedFile, contentKey, ENTRY, isWhole } from './entry-files.js';
import { finishedRecord } from './gathered-files.js';

/** Raise it when the form of a record changes. */
const FORMAT = 1;
const WAIT_MS = 50;
/** The folders in the cache: entries, and what is being written or removed. All begin with a SHA-256. */
const KEY_LENGTH = 64;
/** Others may put and remove the same entry. */
const MOST_ATTEMPTS = 10;
const UNFINISHED = /^[\da-f]{64}\.(part|.+\.tmp)$/;

/** Other processes add and remove entries, too. */
const SEEN_FOR_MS = 60_000;
/** The directory is looked at again then. */
const OPEN_FOR_MS = 10_000;

/** What is known of an entry without a look at it. */
interface SeenEntry {
  readonly bytes: number;
  /** Milliseconds as of `Date.now()`. */
  readonly usedAt: number;
}

/** What was found under a name. */
export interface CacheRecord {
  readonly format: number;
  /** Name of the entry's folder: it follows from the files. */
  readonly entry: string;
  /** Name of the model's own file. */
  readonly model: string;
  readonly files: Readonly<Record<string, CachedFile>>;
}

export interface CacheEntriesEnvironment {
  readonly clock: Clock;
  /** Takes the models with files in the folder out of service. @returns false when they are in use. */
  release(folder: string): Promise<boolean>;
}

/**
 * The folders of a cache of models, which processes of one user share. An entry is named by its contents, and appears
 * whole: it is written beside its place and renamed. A record says which entry was found under which name.
 */
export class CacheEntries {
  readonly #directory: string;
  readonly #maxBytes: number;
  readonly #environment: CacheEntriesEnvironment;
  /** The entries as they were last seen, by name. */
  #seen = new Map<string, SeenEntry>();
  #seenAt = Number.NEGATIVE_INFINITY;
  #openedAt = Number.NEGATIVE_INFINITY;
  /** How many are about to use each folder. */
  readonly #reserved = new Map<string, number>();

  /** @param maxBytes beyond it, entries leave that were not used for longest. */
  constructor(directory: string, maxBytes: number, environment: CacheEntriesEnvironment) {
    this.#directory = directory;
    this.#maxBytes = maxBytes;
    this.#environment = environment;
  }

  /** Creates the directory. @throws InfermuxError `FAILED_PRECONDITION` when it cannot be, or when others may write it. */
  async open(): Promise<void> {
    if (Date.now() - this.#openedAt < OPEN_FOR_MS) return;
    try {
      await mkdir(this.#directory, { recursive: true, mode: 0o700 });
      const found = await stat(this.#directory);
      const others = otherWriters(found, thisUser());
      // Whoever may write it decides what the models answer. A group has been given that right.
      if (others !== undefined && others.who !== 'group') throw new Error(`it ${others.what}`);
      this.#openedAt = Date.now();
    } catch (cause) {
      const message = `the cache of models ${show(this.#directory)} cannot be used: ${messageOf(cause)}; name another in options.modelCache.directory`;
      throw new InfermuxError('FAILED_PRECONDITION', message, { cause });
    }
  }

  /** The directory may be gone: {@link open} looks at it again. */
  lookAgain(): void {
    this.#openedAt = Number.NEGATIVE_INFINITY;
  }

  /**
   * Does the work on a name while no other thread of any process does.
   *
   * @param work is told whether it had to wait: then another thread may have done it.
   * @throws what the work throws; the reason of the signal when that is aborted during the wait.
   */
  async alone<T>(key: string, signal: AbortSignal, work: (waitedSince: number | undefined) => Promise<T>): Promise<T> {
    const startedAt = Date.now();
    for (let waits = 0; ; waits += 1) {
      signal.throwIfAborted();
      const unlock = await tryLock(join(this.#directory, `${key}.lock`));
      if (unlock !== undefined) {
        try {
          return await work(waits === 0 ? undefined : startedAt);
        } finally {
          await unlock();
        }
      }
      await new Promise<void>((resolve) => this.#environment.clock.schedule(resolve, WAIT_MS));
    }
  }

  folderOf({ entry }: Pick<CacheRecord, 'entry'>): string {
    return join(this.#directory, entry);
  }

  /** The folder in which the files for a name gather; what is in it outlasts a process that is killed. */
  workFolder(key: string): string {
    return join(this.#directory, `${key}.part`);
  }

  /** What was last found under the name, if all of its files are there; with when that was. */
  async recall(key: string): Promise<{ record: CacheRecord; foundAt: number } | undefined> {
    const path = this.#recordPath(key);
    try {
      const { mtimeMs } = await stat(path);
      const record = JSON.parse((await readTextFile(path)).text) as CacheRecord;
      if (record.format !== FORMAT || !ENTRY.test(record.entry)) return undefined;
      for (const [name, { bytes }] of Object.entries(record.files)) {
        if ((await stat(join(this.folderOf(record), name))).size !== bytes) return undefined;
      }
      return { record, foundAt: mtimeMs };
    } catch (error) {
      if (isUnanswered(error)) throw error;
      return undefined;
    }
  }

  /** Makes the files of the work folder an entry, and writes down that it was found under the name. */
  async enter(key: string, work: string, model: string, files: ReadonlyMap<string, CachedFile>): Promise<CacheRecord> {
    const record = { format: FORMAT, entry: contentKey(files), model, files: Object.fromEntries(files) };
    const folder = this.folderOf(record);
    if (files.size > 1) for (const name of files.keys()) await rm(finishedRecord(join(work, name)), { force: true });
    // What is left of downloads that were begun for other contents.
    const wanted = new Set([...files.keys()].map((name) => name.split('/')[0]));
    for (const name of await readdir(work))
      if (!wanted.has(name)) await rm(join(work, name), { recursive: true, force: true });
    await syncFolder(work);
    this.reserve(folder);
    await this.#put(work, folder, files);
    await this.note(key, record);
    await this.#prune(record);
    return record;
  }

  /** Puts the folder in its place, unless an entry with the same contents is there: another name may have brought it. */
  async #put(work: string, folder: string, files: ReadonlyMap<string, CachedFile>): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      if (await isWhole(folder, files)) {
        await rm(work, { recursive: true, force: true });
        return;
      }
      try {
        await rename(work, folder);
        await syncFolder(this.#directory);
        return;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if ((code !== 'ENOTEMPTY' && code !== 'EEXIST') || attempt === MOST_ATTEMPTS) throw error;
        // Somebody has cut its files short, or another thread has just put it there.
        if (!(await isWhole(folder, files))) await this.remove(folder);
      }
    }
  }

  /** The entry is not removed before {@link settle}: somebody is about to use it. */
  reserve(folder: string): void {
    this.#reserved.set(folder, (this.#reserved.get(folder) ?? 0) + 1);
  }

  /** Whoever was about to use the entry does, or does not want it. */
  settle(folder: string): void {
    const left = (this.#reserved.get(folder) ?? 0) - 1;
    if (left > 0) this.#reserved.set(folder, left);
    else this.#reserved.delete(folder);
  }

  /** The path of a model of one file with this hash, whatever name it was found under; undefined when it is not there. */
  async withContents(fileName: string, sha256: string): Promise<{ path: string; bytes: number } | undefined> {
    const validator = { etag: undefined, lastModified: undefined };
    const path = join(this.#directory, contentKey(new Map([[fileName, { bytes: 0, sha256, validator }]])), fileName);
    const found = await stat(path).catch(undefinedIfNotThere);
    return found && { path, bytes: found.size };
  }

  /** Writes down that the entry is what is found under the name now, and was used. */
  async note(key: string, record: CacheRecord): Promise<void> {
    // Without a sync: if it is lost, the model is asked for again.
    const path = this.#recordPath(key);
    const temporary = temporaryIn(this.#directory);
    await writeFile(temporary, JSON.stringify(record), { mode: 0o600, flag: 'wx' });
    await rename(temporary, path);
    await this.used(this.folderOf(record));
  }

  /** The entry was used: others leave before it. */
  async used(folder: string): Promise<void> {
    const now = new Date();
    const seen = this.#seen.get(basename(folder));
    if (seen !== undefined) this.#seen.set(basename(folder), { ...seen, usedAt: now.getTime() });
    await utimes(folder, now, now).catch(() => undefined);
  }

  /** Removes entries beyond the bound: those that were not used for longest, but none that is in use. */
  async #prune({ entry: keep, files }: CacheRecord): Promise<void> {
    if (Date.now() - this.#seenAt > SEEN_FOR_MS) await this.#look();
    const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
    this.#seen.set(keep, { bytes, usedAt: Date.now() });
    let total = 0;
    for (const seen of this.#seen.values()) total += seen.bytes;
    if (total <= this.#maxBytes) return;
    for (const [name, seen] of [...this.#seen].sort(([, left], [, right]) => left.usedAt - right.usedAt)) {
      if (total <= this.#maxBytes) return;
      const folder = join(this.#directory, name);
      if (name === keep || this.#reserved.has(folder)) continue;
      const isReleased = await this.#environment.release(folder);
      // Somebody may have found it meanwhile.
      if (isReleased && !this.#reserved.has(folder)) {
        await this.remove(folder);
        total -= seen.bytes;
      } else await this.used(folder);
    }
  }

  /** Looks at all entries, and removes what processes left that were killed long ago. */
  async #look(): Promise<void> {
    this.#seenAt = Date.now();
    await removeAbandoned(this.#directory);
    const seen = new Map<string, SeenEntry>();
    for (const name of await readdir(this.#directory)) {
      const path = join(this.#directory, name);
      const found = await stat(path).catch(() => undefined);
      if (UNFINISHED.test(name) && found !== undefined && Date.now() - found.mtimeMs > ABANDONED_MS)
        await this.#removeUnfinished(name);
      if (ENTRY.test(name) && found?.isDirectory() === true)
        seen.set(name, { bytes: await bytesIn(path), usedAt: found.mtimeMs });
    }
    this.#seen = seen;
  }

  /** Removes what nobody works on any more: a download may take long. */
  async #removeUnfinished(name: string): Promise<void> {
    const unlock = await tryLock(join(this.#directory, `${name.slice(0, KEY_LENGTH)}.lock`));
    if (unlock === undefined) return;
    await rm(join(this.#directory, name), { recursive: true, force: true }).finally(unlock);
  }

  /** Removes an entry. */
  async remove(folder: string): Promise<void> {
    this.#seen.delete(basename(folder));
    const dead = `${folder}.${randomUUID()}.tmp`;
    await rename(folder, dead).catch(undefinedIfNotThere);
    await rm(dead, { recursive: true, force: true });
  }

  #recordPath(key: string): string {
    return join(this.#directory, `${key}.json`);
  }
}
