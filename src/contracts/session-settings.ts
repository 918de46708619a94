import { types } from 'node:util';
import { checkOptions, isInteger, isListOf, isObject, isText, type Rule, satisfies } from '../common/checks.js';
import { InfermuxError, messageOf } from '../common/errors.js';
import { absolutePath, isPath } from '../common/files/paths.js';
import { clone } from '../common/values/clone.js';

/** An execution provider by name, or with its options: `{ name: 'cuda', deviceId: 0 }`. */
export type ExecutionProvider = string | { readonly name: string };

/**
 * Options that are passed to onnxruntime-node's `InferenceSession.create`. A value of onnxruntime-node's type
 * `SessionOptions` is accepted too. onnxruntime ignores unknown keys.
 */
export interface SessionOptions {
  /** In order of preference. Default `['cpu']`. An unavailable provider fails the load. */
  readonly executionProviders?: readonly ExecutionProvider[] | undefined;
  /**
   * Threads within one operator; 0 for onnxruntime's own default. Default `'auto'`: one, because replicas run in
   * parallel; but one for each core for a request that runs alone, or with few others, if that is clearly faster.
   */
  readonly intraOpNumThreads?: number | 'auto' | undefined;
  readonly interOpNumThreads?: number | undefined;
  readonly graphOptimizationLevel?: 'disabled' | 'basic' | 'extended' | 'layout' | 'all' | undefined;
  readonly executionMode?: 'sequential' | 'parallel' | undefined;
  readonly enableCpuMemArena?: boolean | undefined;
  readonly enableMemPattern?: boolean | undefined;
  readonly enableGraphCapture?: boolean | undefined;
  readonly enableProfiling?: boolean | undefined;
  /** A path or a `file:` URL; onnxruntime appends the time. */
  readonly profileFilePrefix?: string | URL | undefined;
  /** A path or a `file:` URL. */
  readonly optimizedModelFilePath?: string | URL | undefined;
  readonly logId?: string | undefined;
  /** From 0 (verbose) to 4 (fatal). Default 4, because errors are thrown as exceptions. */
  readonly logSeverityLevel?: 0 | 1 | 2 | 3 | 4 | undefined;
  readonly logVerbosityLevel?: number | undefined;
  readonly externalData?: readonly unknown[] | undefined;
  readonly preferredOutputLocation?: unknown;
  readonly freeDimensionOverrides?: Readonly<Record<string, number>> | undefined;
  /** More settings of onnxruntime, with its own names, as nested objects of strings. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
}

const LEVELS = ['disabled', 'basic', 'extended', 'layout', 'all'];
/** A larger number of threads is a typing error, and would take the process's memory. */
const MOST_THREADS = 1_024;
/** Deeper nesting would overflow the stack of the code that walks through it. */
const MOST_DEPTH = 32;
/** More are a sparse list, or objects that contain each other many times over. */
const MOST_VALUES = 2_000_000;

/** Keys that infermux checks; onnxruntime-node checks the others. */
const RULES: Readonly<Record<string, Rule>> = {
  executionProviders: isListOf(isProvider, 'a non-empty array of names or { name, … }'),
  intraOpNumThreads: satisfies(
    (value) => value === 'auto' || (Number.isSafeInteger(value) && Number(value) >= 0 && Number(value) <= MOST_THREADS),
    `an integer from 0 to ${MOST_THREADS}, or "auto"`,
  ),
  interOpNumThreads: isInteger({ lowest: 0, highest: MOST_THREADS }),
  graphOptimizationLevel: satisfies((value) => LEVELS.includes(value as string), `one of ${LEVELS.join(', ')}`),
  extra: isObject,
  profileFilePrefix: isPath,
  optimizedModelFilePath: isPath,
};

const PATHS = ['profileFilePrefix', 'optimizedModelFilePath'];

/**
 * Returns a copy of the settings for `InferenceSession.create`, which later replicas get too.
 *
 * @param where names the settings in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` for a value of the wrong form, and for a value that cannot go to another
 *   thread.
 */
export function readSession<T extends object>(where: string, session: T): T {
  const given = Object.entries(session).filter(([, value]) => value !== undefined);
  const checked = checkOptions(where, Object.fromEntries(given.filter(([key]) => Object.hasOwn(RULES, key))), RULES);
  const settings = Object.fromEntries(
    Object.entries({ ...Object.fromEntries(given), ...checked }).map(([key, value]) => [
      key,
      PATHS.includes(key) ? absolutePath(`${where}.${key}`, value as string | URL) : value,
    ]),
  );
  try {
    checkData(settings);
    return clone(settings) as T;
  } catch (cause) {
    const message = `${where} must be plain data, because it goes to other threads: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
}

/**
 * Refuses what cannot be walked through: cycles, deep nesting, very many values and lists that say they are that long. A
 * cycle survives a clone, and would end the process in onnxruntime-node.
 *
 * @throws Error that says why.
 */
export function checkData(value: unknown): void {
  let values = 0;
  const look = (each: unknown, depth: number): void => {
    if (each === null || typeof each !== 'object' || ArrayBuffer.isView(each)) return;
    // Its traps may make keys and elements without end. Structured clone refuses it, too.
    if (types.isProxy(each)) throw new Error('it has a Proxy in it, which cannot be cloned');
    if (depth > MOST_DEPTH) throw new Error(`it is nested more than ${MOST_DEPTH} levels deep, or circular`);
    if (Array.isArray(each)) values += each.length;
    if (values <= MOST_VALUES) {
      for (const part of Object.values(each)) {
        values += 1;
        look(part, depth + 1);
      }
    }
    if (values > MOST_VALUES) throw new Error(`it has more than ${MOST_VALUES} values`);
  };
  look(value, 0);
}

function isProvider(value: unknown): boolean {
  if (typeof value === 'string') return value !== '';
  return isObject(value) === undefined && isText((value as { name?: unknown }).name) === undefined;
}

/** Returns the names of the settings' execution providers. */
export function providersOf({ executionProviders }: { readonly executionProviders?: unknown }): string[] {
  if (!Array.isArray(executionProviders)) return [];
  return executionProviders.map((provider: string | { name: string }) =>
    typeof provider === 'string' ? provider : provider.name,
  );
}

/** Returns the settings with this device for each execution provider that names no device, except `cpu`. */
export function onDevice<T extends { readonly executionProviders?: unknown }>(settings: T, deviceId: number): T {
  const { executionProviders } = settings;
  if (!Array.isArray(executionProviders)) return settings;
  const onIt = executionProviders.map((provider: string | { name: string }) => {
    const named = typeof provider === 'string' ? { name: provider } : provider;
    return named.name === 'cpu' ? provider : { deviceId, ...named };
  });
  return { ...settings, executionProviders: onIt };
}

/** Merges settings, those of the model over the common ones; objects are merged key by key. */
export function mergeSettings(
  common: Readonly<Record<string, unknown>>,
  own: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const merged: Record<string, unknown> = { ...common };
  for (const [key, value] of Object.entries(own)) {
    const other = merged[key];
    merged[key] = isPlain(value) && isPlain(other) ? mergeSettings(other, value) : value;
  }
  return merged;
}

/** Whether it is an object of settings, rather than a list or bytes. */
export function isPlain(value: unknown): value is Readonly<Record<string, unknown>> {
  return value !== null && typeof value === 'object' && !Array.isArray(value) && !ArrayBuffer.isView(value);
}

/** Keys of `extra.session` that begin so are about threads. */
const THREAD_KEYS = 'session.intra_op';

/**
 * Whether a model with these settings may have a session with several threads beside one with a single thread. Not when
 * the settings name the number or say how threads behave, not beside a device, and not when a session writes files.
 */
export function mayBeWide(settings: Readonly<Record<string, unknown>>): boolean {
  const { intraOpNumThreads = 'auto', enableProfiling, executionMode, optimizedModelFilePath, extra } = settings;
  if (intraOpNumThreads !== 'auto' || executionMode === 'parallel') return false;
  if (enableProfiling === true || optimizedModelFilePath !== undefined) return false;
  const { session = {} } = (extra ?? {}) as { session?: object };
  if (Object.keys(session).some((key) => key.startsWith(THREAD_KEYS))) return false;
  return providersOf(settings).every((name) => name === 'cpu');
}

/**
 * Returns why sessions with these settings cannot share the weights of a model; undefined when they can.
 *
 * @param format of the model.
 */
export function whyNotShared(
  format: string | undefined,
  settings: Readonly<Record<string, unknown>>,
): string | undefined {
  const other = providersOf(settings).find((name) => name !== 'cpu');
  if (other !== undefined) return `the execution provider ${other} has weights of its own`;
  if (format === 'ort') return 'a model in the ORT format cannot be compiled again';
  return settings['optimizedModelFilePath'] === undefined
    ? undefined
    : 'its session writes it to optimizedModelFilePath';
}
