import {
  check,
  checkOptions,
  forLists,
  isBoolean,
  isInteger,
  isObject,
  isText,
  type Rule,
  satisfies,
} from '../../common/checks.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { type Batching, type BatchingOptions, checkBatching } from '../../contracts/batching.js';
import type { WarmUpInput, WarmUpInputs, WeightPlacement } from '../../contracts/model-reference.js';
import { elementsOf, isDim, isTensorType, MOST_DIMS } from '../../tensors/tensor.js';
import { readManifestSession } from './manifest-session.js';

/** The versions of a model that are served: the newest, all, or the listed ones. */
export type VersionPolicy = 'latest' | 'all' | readonly number[];

/** The keys of a `model.json` that infermux reads. Other keys are ignored. */
export interface Manifest {
  /** A positive integer. */
  readonly version?: number;
  /** Which versions are served, if the model's folder has folders of versions. */
  readonly versions?: VersionPolicy;
  /**
   * How its requests are batched. Overrides the engine's option, key by key. `maxSize` is at most 65,536, `maxWaitMs`
   * and `targetLatencyMs` at most 60,000.
   */
  readonly batching?: Batching;
  /**
   * For `InferenceSession.create`. Overrides the engine's option, key by key. Only options that cannot harm other
   * models are allowed; `intraOpNumThreads` and `interOpNumThreads` are limited to the cores of this machine.
   */
  readonly session?: Readonly<Record<string, unknown>>;
  readonly weights?: WeightPlacement;
  /** Whether every replica loads it at the start and never evicts it. */
  readonly pinned?: boolean;
  /** Inputs of the runs at the end of each load: at most 100 runs, each with at most 2^24 elements in all its inputs. */
  readonly warmUp?: readonly WarmUpInputs[];
  /** SHA-256 of the model's file, or of several files by name. It is checked at every load. */
  readonly sha256?: string | Readonly<Record<string, string>>;
  readonly licence?: string;
}

/** The settings of a model that do not depend on its files. */
export interface ModelSettings {
  /** As in {@link Manifest}. */
  readonly batching?: Manifest['batching'] | undefined;
  readonly session?: Manifest['session'] | undefined;
  readonly weights?: Manifest['weights'] | undefined;
  readonly warmUp?: Manifest['warmUp'] | undefined;
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
  (value) => value === 'auto' || value === 'private' || value === 'shared',
  "'auto', 'private' or 'shared'",
);

/** Most bytes of a `model.json`. The thread that parses it also answers requests. */
export const MOST_MANIFEST_BYTES = 2 ** 20;
export const MOST_WARM_UPS = 100;
/** Most elements of all inputs of one warm-up run. */
const MOST_ELEMENTS = 2 ** 24;
/** A request that waits for company holds a place in the queue that all models share. */
const MOST_BATCHING = { maxSize: 65_536, maxWaitMs: 60_000, targetLatencyMs: 60_000 } as const;

export const isHash = (value: unknown) => typeof value === 'string' && /^[\da-f]{64}$/i.test(value);

export const areWarmUps: Rule = forLists(
  (value) => Array.isArray(value) && value.length <= MOST_WARM_UPS && value.every(areWarmUpInputs),
  `a list of at most ${MOST_WARM_UPS} of { input: { dims, type?, data? } }, with data in a flat list and at most ${MOST_ELEMENTS} elements in each run`,
);

const RULES: Readonly<Record<Exclude<keyof Manifest, 'batching'>, Rule>> = {
  version: satisfies((value) => isInteger({ lowest: 1 })(value) === undefined, 'a positive integer'),
  versions: isVersionPolicy,
  session: isObject,
  weights: isWeightPlacement,
  pinned: isBoolean,
  warmUp: areWarmUps,
  sha256: satisfies(
    (value) => isHash(value) || (isObject(value) === undefined && Object.values(value as object).every(isHash)),
    '64 hexadecimal digits, or an object of them by file name',
  ),
  licence: isText,
};

/**
 * Reads the contents of a `model.json`.
 *
 * @param where names the file in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` when they are not a valid manifest.
 */
export function parseManifest(text: string, where: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text.replace(/^\uFEFF/, ''));
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `${where} is not JSON: ${messageOf(cause)}`, { cause });
  }
  return checkManifest(value, where);
}

/** @throws InfermuxError `INVALID_ARGUMENT` when the value is no valid manifest. */
export function checkManifest(given: unknown, where: string): Manifest {
  const expectation = isObject(given);
  if (expectation !== undefined)
    throw new InfermuxError('INVALID_ARGUMENT', `${where} must hold an object, got ${show(given)}`);
  const value = given as Readonly<Record<string, unknown>>;
  const manifest: Record<string, unknown> = {};
  for (const [key, rule] of Object.entries(RULES)) {
    const own = value[key];
    if (own === undefined) continue;
    manifest[key] = check(`${where}: ${key}`, own, rule);
  }
  const { session, batching } = value as { session?: Manifest['session']; batching?: unknown };
  if (session !== undefined) manifest['session'] = readManifestSession(`${where}: session`, session);
  if (batching !== undefined) manifest['batching'] = readOwnBatching(`${where}: batching`, batching);
  return manifest;
}

/** Checks the settings. @throws InfermuxError `INVALID_ARGUMENT`. */
export function readModelSettings(where: string, given: ModelSettings): ModelSettings {
  const any = () => undefined;
  checkOptions(where, given, { batching: any, session: any, weights: any, warmUp: any });
  return checkManifest(given, where);
}

function readOwnBatching(where: string, given: unknown): Batching {
  const batching = checkBatching(where, given);
  if (typeof batching !== 'object') return batching;
  for (const [key, most] of Object.entries(MOST_BATCHING)) {
    const value = batching[key as keyof BatchingOptions];
    if (Number(value ?? 0) <= most) continue;
    throw new InfermuxError('INVALID_ARGUMENT', `${where}.${key} must be at most ${most}, got ${show(value)}`);
  }
  return batching;
}

function areWarmUpInputs(value: unknown): boolean {
  if (isObject(value) !== undefined) return false;
  const inputs: unknown[] = Object.values(value as object);
  if (!inputs.every(isWarmUpInput)) return false;
  const elements = inputs.reduce<number>((sum, { dims }) => sum + elementsOf(dims), 0);
  return elements <= MOST_ELEMENTS;
}

function isWarmUpInput(value: unknown): value is WarmUpInput {
  if (isObject(value) !== undefined) return false;
  const { dims, type, data } = value as { [K in keyof WarmUpInput]?: unknown };
  const areDims = Array.isArray(dims) && dims.length <= MOST_DIMS && dims.every(isDim);
  const isType = type === undefined || (typeof type === 'string' && isTensorType(type));
  const isData =
    data === undefined ||
    (Array.isArray(data) && data.every((element) => ['number', 'string', 'boolean'].includes(typeof element)));
  return areDims && isType && isData;
}
