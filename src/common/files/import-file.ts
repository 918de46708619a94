import { stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

/**
 * Imports a module of a user.
 *
 * @param address its `file:` URL.
 * @throws Error also when it is not a regular file: the import would wait for the writer of a pipe, or for the end of a
 *   device.
 */
export async function importFile(address: string): Promise<Readonly<Record<string, unknown>>> {
  if (!(await stat(fileURLToPath(address))).isFile()) throw new Error('it is not a regular file');
  return import(address);
}
