import { constants, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';

/** Most bytes of a text file that is read as a whole. */
export const MOST_TEXT_BYTES = 2 ** 26;

/**
 * Reads a text file as a whole, links followed, and says whose file it is. Only a regular file is read: a pipe would
 * wait for its writer for ever, and a device may never end.
 *
 * @throws Error when it is not a regular file, or has more than 64 MiB; any error of the file system.
 */
export async function readTextFile(path: string): Promise<{ text: string; stats: Stats }> {
  // Otherwise a pipe without a writer blocks one of the few threads of the file system. Windows has no such flag.
  const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw new Error('it is not a regular file');
    if (stats.size > MOST_TEXT_BYTES) throw new Error(`it has ${stats.size} bytes, more than ${MOST_TEXT_BYTES}`);
    return { text: await handle.readFile('utf8'), stats };
  } finally {
    await handle.close();
  }
}
