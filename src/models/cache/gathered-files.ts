import { readFileSync, statSync } from 'node:fs';
import { constants, copyFile, mkdir } from 'node:fs/promises';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { readOnnxFile } from '../../common/files/onnx-file.js';
import { replaceFile } from '../../common/files/write-file.js';
import { isWithin } from '../sources/model-files.js';
import type { CacheRecord } from './cache-entries.js';
import type { CachedFile } from './entry-files.js';

/** By the name that each has beside the others. */
export type FoundFiles = Readonly<Record<string, CachedFile>>;

/** What is known of a file that is whole, while others of its model are not. */
export function finishedRecord(place: string): string {
  return `${place}.infermux-json`;
}

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
      await replaceFile(finishedRecord(join(this.work, name)), JSON.stringify(file), 0o600);
      this.#noted.add(name);
    }
  }

  get bytes(): number {
    return [...this.#added.values(), ...this.#kept.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  find(name: string): CachedFile | undefined {
    return this.#added.get(name) ?? this.#kept.get(name);
  }

  get isUnchanged(): boolean {
    return this.#added.size === 0;
  }

  pathOf(name: string): string {
    return join(this.#kept.has(name) ? (this.before?.folder as string) : this.work, name);
  }

  /** All files, in the work folder. Not linked: a link changes the times of a file that sessions may be loaded from. */
  async all(): Promise<FoundFiles> {
    for (const name of this.#kept.keys()) {
      const place = join(this.work, name);
      await mkdir(dirname(place), { recursive: true, mode: 0o700 });
      await copyFile(this.pathOf(name), place, constants.COPYFILE_FICLONE);
    }
    return Object.fromEntries([...this.#added, ...this.#kept]);
  }
}

/** A file that an earlier process has downloaded whole, before it could finish the others. */
export function readFinished(place: string): CachedFile | undefined {
  const found = statSync(place, { throwIfNoEntry: false });
  if (found === undefined) return undefined;
  try {
    const file = JSON.parse(readFileSync(finishedRecord(place), 'utf8')) as CachedFile;
    return file.bytes === found.size ? file : undefined;
  } catch {
    return undefined;
  }
}

/** Names of the files beside the model's that it needs, none of which leads out of its folder. */
export async function externalDataOf(folder: string, name: string): Promise<string[]> {
  const names = (await readOnnxFile(join(folder, name)))?.externalData ?? [];
  const paths = names.map((each) => resolve(folder, each)).filter((path) => isWithin(folder, path));
  // A model that names itself is refused by onnxruntime.
  const beside = paths.map((path) => relative(folder, path).replaceAll(sep, '/')).filter((each) => each !== name);
  return [...new Set(beside)];
}
