import { constants, type Stats } from 'node:fs';
import { open } from 'node:fs/promises';
import { InfermuxError } from '../errors.js';

/** Most bytes of a text file that is read as a whole. */
export const MOST_TEXT_BYTES = 2 ** 26;

/**
 * Reads a text file as a whole, links followed, and says whose file it is. Only a regular file is read: a pipe would
 * wait for its writer for ever, and a device may never end.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` when it is not a regular file, or has more than `mostBytes`; any error of the
 *   file system.
 */
export async function readTextFile(path: string, mostBytes = MOST_TEXT_BYTES): Promise<{ text: string; stats: Stats }> {
  // Otherwise a pipe without a writer blocks one of the few threads of the file system. Windows has no such flag.
  const handle = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  try {
    const stats = await handle.stat();
    if (!stats.isFile()) throw new InfermuxError('INVALID_ARGUMENT', `${path} is not a regular file`);
    if (stats.size > mostBytes) throw tooLong(path, stats.size, mostBytes);
    return { text: await handle.readFile('utf8'), stats };
  } finally {
    await handle.close();
  }
}

/** The error for a file with too many bytes. */
export function tooLong(path: string, bytes: number, mostBytes: number): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', `${path} must have at most ${mostBytes} bytes, got ${bytes}`);
}
