import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { undefinedIfNotThere } from '../../common/files/system-errors.js';
import type { Validator } from './partial-file.js';

/** Names of entries: SHA-256 in hexadecimal digits. */
export const ENTRY = /^[\da-f]{64}$/;

/** Files of this size are synced to the disk before they are in place; smaller ones are hashed when they are used. */
export const SYNCED_BYTES = 2 ** 20;

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
export function contentKey(files: Readonly<Record<string, CachedFile>>): string {
  const hash = createHash('sha256');
  for (const [name, { sha256 }] of Object.entries(files).sort(([left], [right]) => (left < right ? -1 : 1)))
    hash.update(`${JSON.stringify(name)} ${sha256}\n`);
  return hash.digest('hex');
}

/**
 * Whether the folder has the files. After a loss of power, a file that was not synced may have other contents than it
 * should: to hash a small one is quicker than to sync it, and that holds up no other work on the disk.
 */
export function isWhole(
  folder: string,
  files: Readonly<Record<string, Pick<CachedFile, 'bytes' | 'sha256'>>>,
): boolean {
  return Object.entries(files).every(([name, { bytes, sha256 }]) => {
    const path = join(folder, name);
    if (statSync(path, { throwIfNoEntry: false })?.size !== bytes) return false;
    return bytes >= SYNCED_BYTES || createHash('sha256').update(readFileSync(path)).digest('hex') === sha256;
  });
}

/** Bytes of all files in the folder. Another process may remove it meanwhile. */
export function bytesIn(folder: string): number {
  let bytes = 0;
  try {
    for (const each of readdirSync(folder, { withFileTypes: true, recursive: true }))
      if (each.isFile()) bytes += statSync(join(each.parentPath, each.name), { throwIfNoEntry: false })?.size ?? 0;
  } catch (error) {
    undefinedIfNotThere(error);
  }
  return bytes;
}
