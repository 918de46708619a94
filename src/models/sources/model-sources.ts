import { basename, resolve } from 'node:path';
import { InfermuxError, show } from '../../common/errors.js';
import { lookFailed } from '../../common/system-errors.js';
import type { Batching } from '../../contracts/batching.js';
import type { WeightPlacement } from '../../contracts/model-reference.js';
import { type FoundModel, formatOf } from '../registered-model.js';
import type { Manifest } from './manifest.js';
import { ModelFileReader } from './model-files.js';
import { folderManifest, isNamedByFolder } from './model-folder.js';

/** The source and settings of one model. */
export interface ModelSource {
  /** Path of the model in ONNX or ORT format. Either this or `bytes`. */
  readonly path?: string | undefined;
  /** The model itself, if it is not in a file. The bytes are copied. */
  readonly bytes?: Uint8Array | undefined;
  /** A positive integer; default 1. */
  readonly version?: number | undefined;
  /** How its requests are joined. Overrides the engine's option, key by key. */
  readonly batching?: Batching | undefined;
  /** For `InferenceSession.create`. Overrides the engine's option, key by key. */
  readonly session?: Readonly<Record<string, unknown>> | undefined;
  /** Overrides the engine's option. */
  readonly weights?: WeightPlacement | undefined;
  /** Whether every replica loads it at the start and never evicts it. Default false. */
  readonly pinned?: boolean | undefined;
}

/**
 * Reads the models that are named one by one.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for an invalid id, `FAILED_PRECONDITION` for a file that cannot be read.
 */
export function readSources(
  sources: Readonly<Record<string, string | Uint8Array | ModelSource>>,
  files = new ModelFileReader(),
): Promise<FoundModel[]> {
  return Promise.all(
    Object.entries(sources).map(([id, source]) => {
      if (id === '' || id.includes('@')) {
        throw new InfermuxError('INVALID_ARGUMENT', `models: an id must not be empty or hold "@", got ${show(id)}`);
      }
      return readSource(id, toSource(source), files);
    }),
  );
}

function toSource(source: string | Uint8Array | ModelSource): ModelSource {
  if (typeof source === 'string') return { path: source };
  return source instanceof Uint8Array ? { bytes: source } : source;
}

async function readSource(id: string, source: ModelSource, files: ModelFileReader): Promise<FoundModel> {
  const { path, bytes, version = 1, pinned = false, ...settings } = source;
  const common = { ...settings, id, version, isPinned: pinned };
  if (bytes !== undefined) return { ...common, ...inMemory(id, bytes) };
  const absolute = resolve(path as string);
  try {
    const { changedAt: _, ...read } = await files.read(absolute);
    return { ...common, ...read, path: absolute, format: formatOf(absolute) };
  } catch (cause) {
    throw lookFailed('FAILED_PRECONDITION', `model ${show(id)}`, cause);
  }
}

/** Copies the bytes to shared memory, so that all replicas read the same copy. */
function inMemory(id: string, bytes: Uint8Array) {
  const contents = new SharedArrayBuffer(bytes.byteLength);
  new Uint8Array(contents).set(bytes);
  // The ORT format is a flatbuffer with this file identifier.
  const format = Buffer.from(bytes.subarray(4, 8)).toString('latin1') === 'ORTM' ? 'ort' : 'onnx';
  return { path: `${id} (in memory)`, contents, bytes: bytes.byteLength, fingerprint: 'in memory', format } as const;
}

/**
 * The source of one model file for the option `models`, with `version`, `batching`, `session` and `weights` of the
 * `model.json` beside a `model.onnx` or `model.ort`. A source carries no hashes, warm-up runs or pins of a manifest.
 *
 * @param path of the model's file, which is not read.
 * @throws InfermuxError `INVALID_ARGUMENT` for a bad manifest, `FAILED_PRECONDITION` for one that cannot be read.
 */
export async function readModelSource(path: string): Promise<ModelSource> {
  const absolute = resolve(path);
  if (!isNamedByFolder(basename(absolute))) return { path };
  const { manifest } = await folderManifest(resolve(absolute, '..'));
  const { version, batching, session, weights }: Manifest = manifest;
  return { path, version, batching, session, weights };
}
