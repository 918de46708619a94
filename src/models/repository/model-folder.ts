import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { InfermuxError, messageOf } from '../../common/errors.js';
import { type Manifest, parseManifest } from '../sources/manifest.js';

/** Suffixes of model files, in the order in which they are looked for. */
export const SUFFIXES = ['.onnx', '.ort'];
export const MANIFEST = 'model.json';

/** Whether a file is about the folder that it lies in. */
export function isNamedByFolder(name: string): boolean {
  return SUFFIXES.some((suffix) => name === `model${suffix}`);
}

/** The version that a folder of this name holds; undefined for what is no version. */
export function versionOf(name: string): number | undefined {
  return /^[1-9]\d{0,14}$/.test(name) ? Number(name) : undefined;
}

/** @throws InfermuxError `FAILED_PRECONDITION` when the folder cannot be read. */
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

/** @throws InfermuxError `INVALID_ARGUMENT` for a bad one, `FAILED_PRECONDITION` for one that cannot be read. */
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
 * What is at the path, links followed; undefined when nothing is.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` when that cannot be told: what cannot be read is not gone.
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
