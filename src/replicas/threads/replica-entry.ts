import { existsSync } from 'node:fs';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { InfermuxError, messageOf } from '../../common/errors.js';
import { ownFile } from '../../common/files/own-file.js';

/** The module that a replica's thread runs, as seen from this module. */
const ENTRY = '../../worker/replica-worker.js';

/**
 * Returns the URL of the module that a replica's thread runs.
 *
 * @param base URL of this module. In a bundle it is the URL of the bundle, or undefined.
 * @throws InfermuxError `FAILED_PRECONDITION` when the module is not there.
 */
export function replicaEntry(base: string | undefined = import.meta.url): URL {
  const path = pathFrom(base);
  if (path !== undefined && existsSync(path)) return pathToFileURL(path);
  const what = path ?? `${ENTRY}, seen from ${base ?? 'a bundle that has no import.meta.url'},`;
  throw missing(`${what} is missing, which the threads of replicas run`);
}

/** Returns the error that ended a thread; if a file was missing, one that also says what to do. */
export function explainMissing(error: Error): Error {
  const { code } = error as NodeJS.ErrnoException;
  // The URL of a bundle may be that of the package's file, but Piscina's own files are missing then.
  return code === 'MODULE_NOT_FOUND' || code === 'ERR_MODULE_NOT_FOUND' ? missing(messageOf(error), error) : error;
}

function missing(what: string, cause?: Error): InfermuxError {
  const advice =
    'if this is a bundle, keep infermux and onnxruntime-node out of it, in esbuild by --external:infermux --external:onnxruntime-node';
  return new InfermuxError('FAILED_PRECONDITION', `${what}: ${advice}`, { cause });
}

function pathFrom(base: string | undefined): string | undefined {
  try {
    return base === undefined ? undefined : fileURLToPath(ownFile(ENTRY, base).href);
  } catch {
    return undefined;
  }
}
