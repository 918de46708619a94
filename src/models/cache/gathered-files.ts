import { constants, copyFile } from 'node:fs/promises';
import { join } from 'node:path';
import { replaceFile } from '../../common/files/write-file.js';
import type { CachedFile, CacheRecord } from './cache-entries.js';

/** By the name that each has beside the others. */
export type FoundFiles = ReadonlyMap<string, CachedFile>;

/** The files of one model: new ones in the work folder, and those that are the same in the entry before. */
export class GatheredFiles {
  readonly work: string;
  readonly before: { readonly record: CacheRecord; readonly folder: string } | undefined;
  readonly #added = new Map<string, CachedFile>();
  readonly #kept = new Map<string, CachedFile>();
  readonly #noted = new Set<string>();

  constructor(work: string, before: GatheredFiles['before']) {
    this.work = work;
    this.before = before;
  }

  add(name: string, file: CachedFile): void {
    this.#added.set(name, file);
  }

  keep(name: string): void {
    this.#kept.set(name, this.before?.record.files[name] as CachedFile);
  }

  /** Writes down what is whole, so that another process need not fetch it again if this one ends before the rest is. */
  async noteFinished(): Promise<void> {
    for (const [name, file] of this.#added) {
      if (this.#noted.has(name)) continue;
      await replaceFile(`${join(this.work, name)}.json`, JSON.stringify(file), 0o600);
      this.#noted.add(name);
    }
  }

  get bytes(): number {
    return [...this.#added.values(), ...this.#kept.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  get isUnchanged(): boolean {
    return this.#added.size === 0;
  }

  pathOf(name: string): string {
    return join(this.#kept.has(name) ? (this.before?.folder as string) : this.work, name);
  }

  /** All files, in the work folder. Not linked: a link changes the times of a file that sessions may be loaded from. */
  async all(): Promise<FoundFiles> {
    for (const name of this.#kept.keys())
      await copyFile(this.pathOf(name), join(this.work, name), constants.COPYFILE_FICLONE);
    return new Map([...this.#added, ...this.#kept]);
  }
}
