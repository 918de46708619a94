import { basename, dirname } from 'node:path';
import { check, checkOptions, isBoolean, isInteger, isObject, type Rule, satisfies } from '../../common/checks.js';
import { InfermuxError, readingInput, show } from '../../common/errors.js';
import { absolutePath, isPath } from '../../common/files/paths.js';
import { lookFailed } from '../../common/files/system-errors.js';
import { type Bytes, bytesOf, isBytes, isUrl } from '../../common/values/realm.js';
import { type Batching, checkBatching } from '../../contracts/batching.js';
import type { WarmUpInputs, WeightPlacement } from '../../contracts/model-reference.js';
import { readSession } from '../../contracts/session-settings.js';
import { type FoundModel, formatOf } from '../registered-model.js';
import { areWarmUps, isWeightPlacement, type Manifest } from './manifest.js';
import { ModelFileReader } from './model-files.js';
import { folderManifest, isNamedByFolder } from './model-folder.js';

/** The source and settings of one model. */
export interface ModelSource {
  /** Path or `file:` URL of the model in ONNX or ORT format. Either this or `bytes`. */
  readonly path?: string | URL | undefined;
  /** The model itself, if it is not in a file. The bytes are copied. */
  readonly bytes?: Bytes | undefined;
  /** A positive integer; default 1. */
  readonly version?: number | undefined;
  /** How its requests are batched. Overrides the engine's option, key by key. */
  readonly batching?: Batching | undefined;
  /** For `InferenceSession.create`. Overrides the engine's option, key by key. */
  readonly session?: Readonly<Record<string, unknown>> | undefined;
  /** Overrides the engine's option. */
  readonly weights?: WeightPlacement | undefined;
  /** Inputs of the runs at the end of each load, as in {@link Manifest}. */
  readonly warmUp?: readonly WarmUpInputs[] | undefined;
  /** Whether every replica loads it at the start and never evicts it. Default false. */
  readonly pinned?: boolean | undefined;
}

/** Models by id: the path, the `file:` URL or the bytes of each, or these with settings. */
export type ModelSources = Readonly<Record<string, string | URL | Bytes | ModelSource>>;

/** A source with an absolute path or with bytes. It is a copy, except for the bytes. */
export interface CheckedSource extends ModelSource {
  readonly path: string | undefined;
  readonly bytes: Uint8Array | undefined;
}

const isSource = satisfies(
  (value) => isObject(value) === undefined,
  'a path or a file: URL, a Uint8Array or an ArrayBuffer, or { path or bytes, … }',
);

const RULES: Readonly<Record<keyof ModelSource, Rule>> = {
  path: isPath,
  bytes: satisfies(isBytes, 'a Uint8Array or an ArrayBuffer'),
  version: isInteger({ lowest: 1 }),
  batching: () => undefined,
  session: isObject,
  weights: isWeightPlacement,
  warmUp: areWarmUps,
  pinned: isBoolean,
};

/** @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value. */
export function checkSources(where: string, sources: ModelSources): Record<string, CheckedSource> {
  return Object.fromEntries(
    Object.entries(sources).map(([id, source]) => [id, checkSource(`${where}[${show(id)}]`, source)]),
  );
}

/** @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value. */
export function checkSource(where: string, given: ModelSources[string]): CheckedSource {
  if (typeof given === 'string' || isUrl(given)) return { path: absolutePath(where, given), bytes: undefined };
  if (isBytes(given)) return { path: undefined, bytes: bytesOf(given) };
  check(where, given, isSource);
  const { path, bytes, batching, session, ...rest } = checkOptions(where, given, RULES);
  if ((path === undefined) === (bytes === undefined)) {
    throw new InfermuxError('INVALID_ARGUMENT', `${where} must have either a path or bytes`);
  }
  return {
    ...rest,
    path: path && absolutePath(`${where}.path`, path),
    bytes: bytes && bytesOf(bytes),
    batching: batching === undefined ? undefined : checkBatching(`${where}.batching`, batching),
    session: session && readSession(`${where}.session`, session),
  };
}

/**
 * Reads one model that is named with its source.
 *
 * @throws InfermuxError `FAILED_PRECONDITION` for a file that cannot be read.
 */
export async function readSource(
  id: string,
  source: CheckedSource,
  files = new ModelFileReader(),
): Promise<FoundModel> {
  const { path = '', bytes, version = 1, pinned = false, ...settings } = source;
  const common = { ...settings, id, version, isPinned: pinned };
  if (bytes !== undefined) return { ...common, ...inMemory(id, bytes) };
  try {
    const { changedAt: _, ...read } = await files.read(path);
    return { ...common, ...read, path, format: formatOf(path) };
  } catch (cause) {
    throw lookFailed('FAILED_PRECONDITION', `model ${show(id)}`, cause);
  }
}

/** Copies the bytes to shared memory, so that all replicas read the same copy. */
export function inMemory(id: string, bytes: Uint8Array) {
  const contents = new SharedArrayBuffer(bytes.byteLength);
  new Uint8Array(contents).set(bytes);
  // The ORT format is a flatbuffer with this file identifier.
  const format = Buffer.from(bytes.subarray(4, 8)).toString('latin1') === 'ORTM' ? 'ort' : 'onnx';
  return { path: `${id} (in memory)`, contents, bytes: bytes.byteLength, fingerprint: 'in memory', format } as const;
}

/**
 * The source of one model file for the option `models`, with `version`, `batching`, `session`, `weights` and `warmUp` of
 * the `model.json` beside a `model.onnx` or `model.ort`. A source carries no hashes or pins of a manifest.
 *
 * @param path path or `file:` URL of the model's file, which is not read.
 * @returns the source, with the absolute path.
 * @throws InfermuxError `INVALID_ARGUMENT` for a bad path or manifest, `FAILED_PRECONDITION` for a manifest that cannot
 *   be read.
 */
export async function readModelSource(path: string | URL): Promise<ModelSource & { readonly path: string }> {
  const absolute = readingInput('the model', () => absolutePath('the model', path));
  if (!isNamedByFolder(basename(absolute))) return { path: absolute };
  const { manifest } = await folderManifest(dirname(absolute));
  const { version, batching, session, weights, warmUp }: Manifest = manifest;
  return { path: absolute, version, batching, session, weights, warmUp };
}
