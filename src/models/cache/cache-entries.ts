import { randomUUID } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, renameSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Clock } from '../../common/clock.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { otherWriters, thisUser } from '../../common/files/other-writers.js';
import { isUnanswered, undefinedIfNotThere } from '../../common/files/system-errors.js';
import { tryLock } from '../../common/files/thread-lock.js';
import { ABANDONED_MS, removeAbandoned, temporaryIn, unlinkNow } from '../../common/files/write-file.js';
import { bytesIn, type CachedFile, contentKey, ENTRY, isWhole } from './entry-files.js';
import { finishedRecord } from './gathered-files.js';

/** Raise it when the form of a record changes. */
const FORMAT = 1;
const WAIT_MS = 50;
/** Others may put and remove the same entry. */
const MOST_ATTEMPTS = 10;
/** All names in the cache begin with a SHA-256; more follows while something is written or removed. */
const KEY_LENGTH = 64;
const UNFINISHED = /^[\da-f]{64}\.(part|.+\.tmp)$/;

/** Other processes add and remove entries, too. */
const SEEN_FOR_MS = 60_000;

/** What is known of an entry without a look at it. */
interface SeenEntry {
  readonly bytes: number;
  /** Milliseconds as of `Date.now()`. */
  usedAt: number;
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
 * whole: it is written beside its place and renamed. A record says which entry was found under which name. Short steps on
 * the disk are done at once: see {@link PartialFile}.
 */
export class CacheEntries {
  readonly #directory: string;
  readonly #maxBytes: number;
  readonly #environment: CacheEntriesEnvironment;
  /** The entries as they were last seen, by name. */
  readonly #seen = new Map<string, SeenEntry>();
  /** Bytes of all of them. */
  #bytes = 0;
  #seenAt = Number.NEGATIVE_INFINITY;
  /** How many are about to use each folder. */
  readonly #reserved = new Map<string, number>();

  /** @param maxBytes beyond it, entries leave that were not used for longest. */
  constructor(directory: string, maxBytes: number, environment: CacheEntriesEnvironment) {
    this.#directory = directory;
    this.#maxBytes = maxBytes;
    this.#environment = environment;
  }

  /** Creates the directory. @throws InfermuxError `FAILED_PRECONDITION` when it cannot be, or when others may write it. */
  open(): void {
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      const others = otherWriters(statSync(this.#directory), thisUser());
      // Whoever may write it decides what the models answer. A group has been given that right.
      if (others !== undefined && others.who !== 'group') throw new Error(`it ${others.what}`);
    } catch (cause) {
      const message = `the cache of models ${show(this.#directory)} cannot be used: ${messageOf(cause)}; name another in options.modelCache.directory`;
      throw new InfermuxError('FAILED_PRECONDITION', message, { cause });
    }
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
  recall(key: string): { record: CacheRecord; foundAt: number } | undefined {
    const path = this.#recordPath(key);
    try {
      const { mtimeMs } = statSync(path);
      const record = JSON.parse(readFileSync(path, 'utf8')) as CacheRecord;
      const isRight = record.format === FORMAT && ENTRY.test(record.entry);
      return isRight && isWhole(this.folderOf(record), record.files) ? { record, foundAt: mtimeMs } : undefined;
    } catch (error) {
      if (isUnanswered(error)) throw error;
      return undefined;
    }
  }

  /**
   * Makes the files of the work folder an entry, and writes down that it was found under the name. Only the files are
   * synced: after a loss of power, names that are missing show that the entry is not whole.
   */
  async enter(
    key: string,
    work: string,
    model: string,
    files: Readonly<Record<string, CachedFile>>,
  ): Promise<CacheRecord> {
    const record = { format: FORMAT, entry: contentKey(files), model, files };
    const folder = this.folderOf(record);
    const names = Object.keys(files);
    if (names.length > 1) for (const name of names) unlinkNow(finishedRecord(join(work, name)));
    // What is left of downloads that were begun for other contents.
    const wanted = new Set(names.map((name) => name.split('/')[0]));
    for (const name of readdirSync(work))
      if (!wanted.has(name)) await rm(join(work, name), { recursive: true, force: true });
    return this.reserving(folder, async () => {
      await this.#put(work, folder, files);
      this.note(key, record);
      await this.#prune(record);
      return record;
    });
  }

  /** Puts the folder in its place, unless an entry with the same contents is there: another name may have brought it. */
  async #put(work: string, folder: string, files: Readonly<Record<string, CachedFile>>): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      if (isWhole(folder, files)) {
        await rm(work, { recursive: true, force: true });
        return;
      }
      try {
        renameSync(work, folder);
        return;
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if ((code !== 'ENOTEMPTY' && code !== 'EEXIST') || attempt === MOST_ATTEMPTS) throw error;
        // Somebody has cut its files short, or another thread has just put it there.
        if (!isWhole(folder, files)) await this.#drop(folder);
      }
    }
  }

  /** The entry is not removed before {@link settle}: somebody is about to use it. */
  reserve(folder: string): void {
    this.#reserved.set(folder, (this.#reserved.get(folder) ?? 0) + 1);
  }

  /** Reserves the entry while the work on it goes on, and from then on if it comes to something. */
  async reserving<T>(folder: string, work: () => Promise<T>): Promise<T> {
    this.reserve(folder);
    let done: T | undefined;
    try {
      done = await work();
      return done;
    } finally {
      if (done === undefined) this.settle(folder);
    }
  }

  /** Whoever was about to use the entry does, or does not want it. */
  settle(folder: string): void {
    const left = (this.#reserved.get(folder) ?? 0) - 1;
    if (left > 0) this.#reserved.set(folder, left);
    else this.#reserved.delete(folder);
  }

  /** The path of a model of one file with this hash, whatever name it was found under; undefined when it is not there. */
  withContents(fileName: string, sha256: string): { path: string; bytes: number } | undefined {
    const validator = { etag: undefined, lastModified: undefined };
    const folder = this.folderOf({ entry: contentKey({ [fileName]: { bytes: 0, sha256, validator } }) });
    const path = join(folder, fileName);
    const bytes = statSync(path, { throwIfNoEntry: false })?.size;
    if (bytes === undefined || !isWhole(folder, { [fileName]: { bytes, sha256 } })) return undefined;
    return { path, bytes };
  }

  /** Writes down that the entry is what is found under the name now, and was used. */
  note(key: string, record: CacheRecord): void {
    // Without a sync: if it is lost, the model is asked for again.
    const temporary = temporaryIn(this.#directory);
    writeFileSync(temporary, JSON.stringify(record), { mode: 0o600, flag: 'wx' });
    renameSync(temporary, this.#recordPath(key));
    this.used(this.folderOf(record));
  }

  /** The entry was used: others leave before it. */
  used(folder: string): void {
    const now = new Date();
    const seen = this.#seen.get(basename(folder));
    if (seen !== undefined) seen.usedAt = now.getTime();
    try {
      utimesSync(folder, now, now);
    } catch {
      // It may be gone, or belong to somebody else.
    }
  }

  /** Removes entries beyond the bound: those that were not used for longest, but none that is in use. */
  async #prune({ entry, files }: CacheRecord): Promise<void> {
    if (Date.now() - this.#seenAt > SEEN_FOR_MS) await this.#look();
    const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
    this.#see(entry, { bytes, usedAt: Date.now() });
    if (this.#bytes <= this.#maxBytes) return;
    for (const [name, seen] of [...this.#seen].sort(([, left], [, right]) => left.usedAt - right.usedAt)) {
      if (this.#bytes <= this.#maxBytes) return;
      const folder = join(this.#directory, name);
      if (name === entry || this.#reserved.has(folder)) continue;
      const usedAt = statSync(folder, { throwIfNoEntry: false })?.mtimeMs;
      if (usedAt === undefined) this.#see(name, undefined);
      // Another process has used it.
      else if (usedAt > seen.usedAt + 1) seen.usedAt = usedAt;
      else if (!(await this.#environment.release(folder))) this.used(folder);
      else await this.remove(folder);
    }
  }

  #see(name: string, seen: SeenEntry | undefined): void {
    this.#bytes += (seen?.bytes ?? 0) - (this.#seen.get(name)?.bytes ?? 0);
    if (seen === undefined) this.#seen.delete(name);
    else this.#seen.set(name, seen);
  }

  /** Looks which entries there are, and removes what processes left that were killed long ago. */
  async #look(): Promise<void> {
    this.#seenAt = Date.now();
    await removeAbandoned(this.#directory);
    const names = new Set(readdirSync(this.#directory));
    for (const name of this.#seen.keys()) if (!names.has(name)) this.#see(name, undefined);
    for (const name of names) {
      // What an entry holds does not change.
      if (this.#seen.has(name) || !(ENTRY.test(name) || UNFINISHED.test(name))) continue;
      const path = join(this.#directory, name);
      const found = statSync(path, { throwIfNoEntry: false });
      if (found === undefined) continue;
      if (UNFINISHED.test(name) && Date.now() - found.mtimeMs > ABANDONED_MS) await this.#removeUnfinished(name);
      if (ENTRY.test(name) && found.isDirectory()) this.#see(name, { bytes: bytesIn(path), usedAt: found.mtimeMs });
    }
  }

  /** Removes what nobody works on any more: a download may take long. */
  async #removeUnfinished(name: string): Promise<void> {
    const unlock = await tryLock(join(this.#directory, `${name.slice(0, KEY_LENGTH)}.lock`));
    if (unlock === undefined) return;
    await rm(join(this.#directory, name), { recursive: true, force: true }).finally(unlock);
  }

  /** Removes an entry, unless somebody is about to use it. */
  async remove(folder: string): Promise<void> {
    if (!this.#reserved.has(folder)) await this.#drop(folder);
  }

  async #drop(folder: string): Promise<void> {
    this.#see(basename(folder), undefined);
    const dead = `${folder}.${randomUUID()}.tmp`;
    try {
      // At once: nobody finds it any more.
      renameSync(folder, dead);
    } catch (error) {
      undefinedIfNotThere(error);
    }
    await rm(dead, { recursive: true, force: true });
  }

  #recordPath(key: string): string {
    return join(this.#directory, `${key}.json`);
  }
}
