import { check, forLists, isBoolean, isInteger, isObject, isText, type Rule, satisfies } from '../../common/checks.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { type Batching, checkBatching } from '../../contracts/batching.js';
import type { WarmUpInput, WarmUpInputs, WeightPlacement } from '../../contracts/model-reference.js';
import { readSession } from '../../contracts/session-settings.js';
import { isTensorType, MOST_DIMS } from '../../tensors/tensor.js';

/** The versions of a model that are served: the newest, all, or the listed ones. */
export type VersionPolicy = 'latest' | 'all' | readonly number[];

/** The keys of a `model.json` that infermux reads. Other keys are ignored. */
export interface Manifest {
  /** A positive integer. */
  readonly version?: number;
  /** In a model's folder with folders of versions: the versions that are served. */
  readonly versions?: VersionPolicy;
  /** How its requests are joined. Overrides the engine's option, key by key. */
  readonly batching?: Batching;
  /** For `InferenceSession.create`. Overrides the engine's option, key by key. */
  readonly session?: Readonly<Record<string, unknown>>;
  readonly weights?: WeightPlacement;
  /** Whether every replica loads it at the start and never evicts it. */
  readonly pinned?: boolean;
  /** Inputs of the runs at the end of each load. */
  readonly warmUp?: readonly WarmUpInputs[];
  /** Checked at every load: SHA-256 of the model's file, or of several files by name. */
  readonly sha256?: string | Readonly<Record<string, string>>;
  readonly licence?: string;
}

export const isVersionPolicy: Rule = forLists(
  (value) =>
    value === 'latest' ||
    value === 'all' ||
    (Array.isArray(value) &&
      value.length > 0 &&
      value.every((version) => Number.isSafeInteger(version) && version > 0)),
  "'latest', 'all' or a list of positive integers",
);

export const isWeightPlacement: Rule = satisfies(
  (value) => value === 'private' || value === 'shared',
  "'private' or 'shared'",
);

/** A longer text is no manifest. */
const MOST_CHARACTERS = 2 ** 24;

const WRITING_KEYS = ['optimizedModelFilePath', 'enableProfiling', 'profileFilePrefix'];

const isHash = (value: unknown) => typeof value === 'string' && /^[\da-f]{64}$/i.test(value);

const RULES: Readonly<Record<Exclude<keyof Manifest, 'batching'>, Rule>> = {
  version: satisfies((value) => isInteger({ lowest: 1 })(value) === undefined, 'a positive integer'),
  versions: isVersionPolicy,
  session: isObject,
  weights: isWeightPlacement,
  pinned: isBoolean,
  warmUp: forLists(
    (value) => Array.isArray(value) && value.every(areWarmUpInputs),
    'a list of { input: { dims, type?, data? } }, with data in a flat list',
  ),
  sha256: satisfies(
    (value) => isHash(value) || (isObject(value) === undefined && Object.values(value as object).every(isHash)),
    '64 hexadecimal digits, or an object of them by file name',
  ),
  licence: isText,
};

/**
 * Reads the text of a `model.json`.
 *
 * @param where names the file in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` when the text is not a valid manifest.
 */
export function parseManifest(text: string, where: string): Manifest {
  if (text.length > MOST_CHARACTERS) {
    const message = `${where} must have at most ${MOST_CHARACTERS} characters, got ${text.length}`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `${where} is not JSON: ${messageOf(cause)}`, { cause });
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    throw new InfermuxError('INVALID_ARGUMENT', `${where} must hold an object, got ${show(value)}`);
  }
  return readManifest(value as Record<string, unknown>, where);
}

function readManifest(value: Readonly<Record<string, unknown>>, where: string): Manifest {
  const manifest: Record<string, unknown> = {};
  for (const [key, rule] of Object.entries(RULES)) {
    const own = value[key];
    if (own === undefined) continue;
    manifest[key] = check(`${where}: ${key}`, own, rule);
  }
  if (value['session'] !== undefined) manifest['session'] = readOwnSession(`${where}: session`, value['session']);
  if (value['batching'] !== undefined) manifest['batching'] = checkBatching(`${where}: batching`, value['batching']);
  return manifest;
}

/** Refuses session options that write files, so that a deployed model cannot choose where to write. */
function readOwnSession(where: string, session: unknown): Manifest['session'] {
  const writing = WRITING_KEYS.find((key) => Object.hasOwn(session as object, key));
  if (writing !== undefined) {
    const message = `${where}: ${writing} writes files; it is allowed in options.session only`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  return readSession(where, session as Readonly<Record<string, unknown>>);
}

function areWarmUpInputs(value: unknown): boolean {
  return isObject(value) === undefined && Object.values(value as object).every(isWarmUpInput);
}

function isWarmUpInput(value: unknown): boolean {
  if (isObject(value) !== undefined) return false;
  const { dims, type, data } = value as { [K in keyof WarmUpInput]?: unknown };
  const areDims =
    Array.isArray(dims) && dims.length <= MOST_DIMS && dims.every((size) => Number.isSafeInteger(size) && size >= 0);
  const isType = type === undefined || (typeof type === 'string' && isTensorType(type));
  const isData =
    data === undefined ||
    (Array.isArray(data) && data.every((element) => ['number', 'string', 'boolean'].includes(typeof element)));
  return areDims && isType && isData;
}
