import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { Batching } from '../batching.js';
import { InfermuxError, messageOf, show } from '../errors.js';
import { type Manifest, parseManifest } from './manifest.js';

/** Where one model comes from. */
export interface ModelSource {
  /** File of the model: ONNX or ORT format. */
  readonly path: string;
  /** A positive integer; default 1. */
  readonly version?: number | undefined;
  /** How its requests are joined; goes before the engine's option, key by key. */
  readonly batching?: Batching | undefined;
}

/** One version of one model. */
export interface RegisteredModel {
  readonly id: string;
  readonly version: number;
  /** `id@version`: names this version everywhere inside the engine. */
  readonly key: string;
  readonly path: string;
  /** Size of the file. */
  readonly bytes: number;
  /** Its own setting; the engine's when undefined. */
  readonly batching?: Batching | undefined;
}

/** Suffixes of model files, in the order in which they are looked for. */
const SUFFIXES = ['.onnx', '.ort'];
const MANIFEST = 'model.json';

/**
 * Finds the models of a directory: `<id>.onnx`, `<id>/model.onnx` or `<id>/<version>/model.onnx`, and the same with
 * `.ort`. What is no model is passed over; links are followed.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` when the directory cannot be read, `INVALID_ARGUMENT` for a bad manifest.
 */
export async function scanDirectory(directory: string): Promise<RegisteredModel[]> {
  const root = resolve(directory);
  const names = await listNames(root);
  const found = await Promise.all(names.map((name) => readEntry(root, name)));
  return found.flat();
}

/**
 * Registers models that are named one by one.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for an id that is none, `FAILED_PRECONDITION` for a file that cannot be read.
 */
export async function readSources(sources: Readonly<Record<string, string | ModelSource>>): Promise<RegisteredModel[]> {
  return Promise.all(
    Object.entries(sources).map(([id, source]) => {
      const { path, ...settings } = typeof source === 'string' ? { path: source } : source;
      if (id === '' || id.includes('@')) {
        throw new InfermuxError('INVALID_ARGUMENT', `models: an id must not be empty or hold "@", got ${show(id)}`);
      }
      return register(id, resolve(path), settings);
    }),
  );
}

/**
 * What is known of one model file: a `model.json` beside a `model.onnx` or `model.ort` is about it.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a bad manifest.
 */
export async function readSource(path: string): Promise<ModelSource> {
  const isNamedByFolder = SUFFIXES.some((suffix) => basename(path) === `model${suffix}`);
  return isNamedByFolder ? { path, ...(await readManifest(dirname(path))) } : { path };
}

async function listNames(root: string): Promise<string[]> {
  try {
    return (await readdir(root)).sort();
  } catch (cause) {
    throw new InfermuxError('FAILED_PRECONDITION', `models: ${messageOf(cause)}`, { cause });
  }
}

async function readEntry(root: string, name: string): Promise<RegisteredModel[]> {
  // "@" separates id and version in a request, so such a name could never be asked for.
  if (name.includes('@') || name.startsWith('.')) return [];
  const path = join(root, name);
  const suffix = SUFFIXES.find((candidate) => name.endsWith(candidate));
  if (suffix !== undefined && (await isFile(path))) return [await register(basename(name, suffix), path, {})];
  return readModelFolder(path, name);
}

async function readModelFolder(folder: string, id: string): Promise<RegisteredModel[]> {
  if (!(await isDirectory(folder))) return [];
  const direct = await findModelFile(folder);
  if (direct !== undefined) {
    return [await register(id, direct, await readManifest(folder))];
  }
  const versions = (await listNames(folder)).filter((name) => /^[1-9]\d{0,14}$/.test(name));
  const found = await Promise.all(
    versions.map(async (version) => {
      const path = await findModelFile(join(folder, version));
      if (path === undefined) return undefined;
      const { batching } = await readManifest(join(folder, version));
      return register(id, path, { version: Number(version), batching });
    }),
  );
  return found.filter((model) => model !== undefined);
}

async function findModelFile(folder: string): Promise<string | undefined> {
  for (const suffix of SUFFIXES) {
    const path = join(folder, `model${suffix}`);
    if (await isFile(path)) return path;
  }
  return undefined;
}

async function readManifest(folder: string): Promise<Manifest> {
  const path = join(folder, MANIFEST);
  if (!(await isFile(path))) return {};
  return parseManifest(await readFile(path, 'utf8'), path);
}

async function register(
  id: string,
  path: string,
  { version = 1, batching }: Omit<ModelSource, 'path'>,
): Promise<RegisteredModel> {
  try {
    const found = await stat(path);
    if (!found.isFile()) throw new Error(`${path} is not a file; expected an ONNX or ORT file`);
    return { id, version, key: `${id}@${version}`, path, bytes: found.size, batching };
  } catch (cause) {
    throw new InfermuxError('FAILED_PRECONDITION', `model ${show(id)}: ${messageOf(cause)}`, { cause });
  }
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() ?? false;
}

async function isDirectory(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isDirectory() ?? false;
}
