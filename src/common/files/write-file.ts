import { randomUUID } from 'node:crypto';
import { unlinkSync } from 'node:fs';
import { lstat, open, readdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { undefinedIfNotThere } from './system-errors.js';

const TEMPORARY_NAME = /^\.infermux-[\da-f-]{36}\.tmp$/;
/** Age at which a temporary file or folder counts as left behind by a killed process. */
export const ABANDONED_MS = 3_600_000;

/** Returns the path of a file that does not exist yet. Nobody can guess it. */
export function temporaryIn(folder: string): string {
  return join(folder, `.infermux-${randomUUID()}.tmp`);
}

/**
 * Creates a file and syncs it to the disk. Whatever is at the path already, a link too, is neither followed nor changed.
 * A file that cannot be written as a whole is removed.
 *
 * @param mode permissions, less those that the umask takes away.
 * @throws Error `EEXIST` when something is at the path; any other error of the file system.
 */
export async function createFile(path: string, contents: string | Uint8Array, mode: number): Promise<void> {
  const handle = await open(path, 'wx', mode);
  try {
    await handle.writeFile(contents);
    await handle.sync();
  } catch (error) {
    await rm(path, { force: true }).catch(() => undefined);
    throw error;
  } finally {
    await handle.close();
  }
}

/**
 * Writes a file that is whole at every moment, also after a loss of power: the contents go into a temporary file beside
 * it, which is then renamed. A link at the path is replaced, and what it leads to stays as it is.
 *
 * @param mode as in {@link createFile}. A file that was there loses its own mode.
 * @param begins called with the temporary file's path before it is written.
 * @throws Error of the file system; the file is unchanged then.
 */
export async function replaceFile(
  path: string,
  contents: string | Uint8Array,
  mode: number,
  begins: (temporary: string) => Promise<void> = async () => undefined,
): Promise<void> {
  const temporary = temporaryIn(dirname(path));
  await begins(temporary);
  await createFile(temporary, contents, mode);
  try {
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Removes a file at once, if there is one. For threads that may wait for the disk: `rm` takes several steps. */
export function unlinkNow(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    undefinedIfNotThere(error);
  }
}

/** Removes the temporary files of processes that were killed. One that cannot be removed does no harm. */
export async function removeAbandoned(folder: string): Promise<void> {
  const names = await readdir(folder).catch(() => []);
  for (const name of names.filter((each) => TEMPORARY_NAME.test(each))) {
    const path = join(folder, name);
    const found = await lstat(path).catch(() => undefined);
    if (found?.isFile() !== true || Date.now() - found.mtimeMs <= ABANDONED_MS) continue;
    await rm(path, { force: true }).catch(() => undefined);
  }
}

/** Makes the names in the folder survive a loss of power, on systems where a folder can be opened and synced. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined);
  await handle?.sync().catch(() => undefined);
  await handle?.close();
}
