import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readTextFile } from '../../common/files/read-file.js';
import { isNotThere, lookFailed } from '../../common/files/system-errors.js';
import { type Manifest, MOST_MANIFEST_BYTES, parseManifest } from './manifest.js';
import { readTritonConfig } from './triton/triton-config.js';

/** Suffixes of model files, in the order of the search. */
export const SUFFIXES = ['.onnx', '.ort'];
export const MANIFEST = 'model.json';
/** The file in which Triton has the settings of a model. */
export const TRITON_CONFIG = 'config.pbtxt';

/** Whether the file is `model.onnx` or `model.ort`, whose model is named by its folder. */
export function isNamedByFolder(name: string): boolean {
  return SUFFIXES.some((suffix) => name === `model${suffix}`);
}

/** The version that a folder of this name holds; undefined when the name is not a version. */
export function versionOf(name: string): number | undefined {
  return /^[1-9]\d*$/.test(name) && Number.isSafeInteger(Number(name)) ? Number(name) : undefined;
}

/** Why a name of digits is not a version, and what to do; undefined for every other name. */
export function whyNoVersion(name: string): string | undefined {
  if (!/^\d+$/.test(name) || versionOf(name) !== undefined) return undefined;
  const version = versionOf(name.replace(/^0+/, ''));
  const wanted = version === undefined ? '' : `, for instance to ${version}`;
  return `a version is an integer from 1 to ${Number.MAX_SAFE_INTEGER} without leading zeros: rename the folder${wanted}`;
}

/**
 * The names in a folder, sorted.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` when the folder cannot be read; retryable when the system cannot answer.
 */
export async function listNames(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).sort();
  } catch (cause) {
    throw lookFailed('FAILED_PRECONDITION', 'models', cause);
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

/** What a folder says of its model. */
export interface FolderManifest {
  readonly manifest: Manifest;
  /** Paths of the files that say it. */
  readonly paths: string[];
  /** What a configuration of Triton says that has no counterpart here. */
  readonly ignored: readonly string[];
}

/**
 * The folder's `model.json`, or what its `config.pbtxt` says, with its path; empty when there is neither.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a bad manifest, `FAILED_PRECONDITION` when it cannot be read.
 */
export async function folderManifest(folder: string): Promise<FolderManifest> {
  const own = await readText(join(folder, MANIFEST));
  if (own !== undefined) return { manifest: parseManifest(own.text, own.path), paths: [own.path], ignored: [] };
  const config = await readText(join(folder, TRITON_CONFIG));
  if (config === undefined) return { manifest: {}, paths: [], ignored: [] };
  return { ...readTritonConfig(config.text, config.path), paths: [config.path] };
}

async function readText(path: string): Promise<{ readonly text: string; readonly path: string } | undefined> {
  if ((await kindOf(path)) !== 'file') return undefined;
  try {
    return { text: (await readTextFile(path, MOST_MANIFEST_BYTES)).text, path };
  } catch (cause) {
    throw lookFailed('FAILED_PRECONDITION', 'models', cause);
  }
}

/**
 * The kind of the file or folder at the path, links followed; undefined for anything else.
 *
 * @throws InfermuxError `FAILED_PRECONDITION`, retryable, when the system cannot answer: it may still exist.
 */
export async function kindOf(path: string): Promise<'file' | 'folder' | undefined> {
  try {
    const found = await stat(path);
    if (found.isFile()) return 'file';
    return found.isDirectory() ? 'folder' : undefined;
  } catch (cause) {
    if (isNotThere(cause)) return undefined;
    throw lookFailed('FAILED_PRECONDITION', 'models', cause);
  }
}
