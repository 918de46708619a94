import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { InfermuxError, messageOf } from '../../common/errors.js';
import { type Manifest, parseManifest } from './manifest.js';

/** Suffixes of model files, in the order of the search. */
export const SUFFIXES = ['.onnx', '.ort'];
export const MANIFEST = 'model.json';

/** Whether the file is `model.onnx` or `model.ort`, whose model is named by its folder. */
export function isNamedByFolder(name: string): boolean {
  return SUFFIXES.some((suffix) => name === `model${suffix}`);
}

/** The version that a folder of this name holds; undefined when the name is not a version. */
export function versionOf(name: string): number | undefined {
  return /^[1-9]\d{0,14}$/.test(name) ? Number(name) : undefined;
}

/** The names in a folder, sorted. @throws InfermuxError `FAILED_PRECONDITION` when the folder cannot be read. */
export async function listNames(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (cause) {
    throw new InfermuxError('FAILED_PRECONDITION', `models: ${messageOf(cause)}`, { cause });
  }
}

/** The folder's `model.onnx` or `model.ort`. */
export async function findModelFile(folder: string): Promise<string | undefined> {
  for (const suffix of SUFFIXES) {
    const path = join(folder, `model${suffix}`);
    if ((await kindOf(path)) === 'file') return path;
  }
  return undefined;
}

/**
 * The folder's manifest with its path; empty when there is none.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a bad manifest, `FAILED_PRECONDITION` when it cannot be read.
 */
export async function folderManifest(folder: string): Promise<{ manifest: Manifest; paths: string[] }> {
  const path = join(folder, MANIFEST);
  if ((await kindOf(path)) !== 'file') return { manifest: {}, paths: [] };
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw new InfermuxError('FAILED_PRECONDITION', `models: ${messageOf(cause)}`, { cause });
  }
  return { manifest: parseManifest(text, path), paths: [path] };
}

/**
 * The kind of the file or folder at the path, links followed; undefined for anything else.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` when the path cannot be read: it may still exist.
 */
export async function kindOf(path: string): Promise<'file' | 'folder' | undefined> {
  try {
    const found = await stat(path);
    if (found.isFile()) return 'file';
    return found.isDirectory() ? 'folder' : undefined;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return undefined;
    throw new InfermuxError('FAILED_PRECONDITION', `models: ${messageOf(cause)}`, { cause });
  }
}
