import { createHash } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { undefinedIfNotThere } from '../../common/files/system-errors.js';
import type { Validator } from './partial-file.js';

/** Names of entries: SHA-256 in hexadecimal digits. */
export const ENTRY = /^[\da-f]{64}$/;

/** A file of an entry. */
export interface CachedFile {
  readonly bytes: number;
  readonly sha256: string;
  readonly validator: Validator;
}

/** The folder of the entry of the cache that the file is in; undefined for a file elsewhere. */
export function entryFolderOf(directory: string, path: string): string | undefined {
  const folder = dirname(path);
  return dirname(folder) === directory && ENTRY.test(basename(folder)) ? folder : undefined;
}

/** Names what was found: the key of its record and of its lock. */
export function nameKey(name: string): string {
  return createHash('sha256').update(name).digest('hex');
}

/** Names the contents of files, and the names that they have beside each other. */
export function contentKey(files: ReadonlyMap<string, CachedFile>): string {
  const hash = createHash('sha256');
  for (const [name, { sha256 }] of [...files].sort(([left], [right]) => (left < right ? -1 : 1)))
    hash.update(`${JSON.stringify(name)} ${sha256}\n`);
  return hash.digest('hex');
}

/** Whether the folder has the files with their sizes. */
export async function isWhole(folder: string, files: ReadonlyMap<string, CachedFile>): Promise<boolean> {
  for (const [name, { bytes }] of files) {
    const found = await stat(join(folder, name)).catch(undefinedIfNotThere);
    if (found?.size !== bytes) return false;
  }
  return true;
}

/** Bytes of all files in the folder. */
export async function bytesIn(folder: string): Promise<number> {
  let bytes = 0;
  const found = await readdir(folder, { withFileTypes: true, recursive: true }).catch(undefinedIfNotThere);
  for (const each of found ?? []) {
    if (each.isFile()) bytes += (await stat(join(each.parentPath, each.name)).catch(undefinedIfNotThere))?.size ?? 0;
  }
  return bytes;
}
