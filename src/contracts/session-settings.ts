import { checkOptions, isInteger, isObject, isText, type Rule, satisfies } from '../common/checks.js';
import { compact } from '../common/compact.js';
import { InfermuxError, messageOf } from '../common/errors.js';

/** An execution provider by name, or with options of its own: `{ name: 'cuda', deviceId: 0 }`. */
export type ExecutionProvider = string | { readonly name: string };

/**
 * Options that are passed through to onnxruntime-node's `InferenceSession.create`. Its own `SessionOptions` fit as they
 * are. It ignores unknown keys.
 */
export interface SessionOptions {
  /** In order of preference. Default `['cpu']`. An unavailable provider fails the load. */
  readonly executionProviders?: readonly ExecutionProvider[] | undefined;
  /** Threads within one operator. Default 1: the replicas are the parallelism. */
  readonly intraOpNumThreads?: number | undefined;
  readonly interOpNumThreads?: number | undefined;
  readonly graphOptimizationLevel?: 'disabled' | 'basic' | 'extended' | 'layout' | 'all' | undefined;
  readonly executionMode?: 'sequential' | 'parallel' | undefined;
  readonly enableCpuMemArena?: boolean | undefined;
  readonly enableMemPattern?: boolean | undefined;
  readonly enableGraphCapture?: boolean | undefined;
  readonly enableProfiling?: boolean | undefined;
  readonly profileFilePrefix?: string | undefined;
  readonly optimizedModelFilePath?: string | undefined;
  readonly logId?: string | undefined;
  /** From 0 (verbose) to 4 (fatal). Default 4, because errors come as exceptions. */
  readonly logSeverityLevel?: 0 | 1 | 2 | 3 | 4 | undefined;
  readonly logVerbosityLevel?: number | undefined;
  readonly externalData?: readonly unknown[] | undefined;
  readonly preferredOutputLocation?: unknown;
  readonly freeDimensionOverrides?: Readonly<Record<string, number>> | undefined;
  /** Further settings of onnxruntime, by its own names, as nested objects of strings. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
}

const LEVELS = ['disabled', 'basic', 'extended', 'layout', 'all'];
/** A larger number of threads is a typing error, and would take the process's memory. */
const MOST_THREADS = 1_024;
/** Deeper nesting would overflow the stack of the code that walks through it. */
const MOST_DEPTH = 32;

/** Keys that infermux checks; onnxruntime-node checks the others. */
const RULES: Readonly<Record<string, Rule>> = {
  executionProviders: satisfies(
    (value) => Array.isArray(value) && value.length > 0 && [...value].every(isProvider),
    'a non-empty array of names or { name, … }',
  ),
  intraOpNumThreads: isInteger({ lowest: 0, highest: MOST_THREADS }),
  interOpNumThreads: isInteger({ lowest: 0, highest: MOST_THREADS }),
  graphOptimizationLevel: satisfies((value) => LEVELS.includes(value as string), `one of ${LEVELS.join(', ')}`),
  extra: isObject,
};

/**
 * Returns a copy of the settings for `InferenceSession.create`, which later replicas get too.
 *
 * @param where names the settings in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` for a value of the wrong form, and for a value that cannot go to another
 *   thread.
 */
export function readSession<T extends object>(where: string, session: T): T {
  const known = Object.fromEntries(Object.entries(session).filter(([key]) => Object.hasOwn(RULES, key)));
  checkOptions(where, known, RULES);
  try {
    checkDepth(session);
    const given = Object.fromEntries(Object.entries(session).filter(([, value]) => value !== undefined));
    return structuredClone(compact(given)) as T;
  } catch (cause) {
    const message = `${where} must be plain data, because it goes to other threads: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
}

/**
 * Refuses cycles and deep nesting. A cycle survives a clone, and would end the process in onnxruntime-node.
 *
 * @throws Error when the value is nested too deep.
 */
export function checkDepth(value: unknown, depth = 0): void {
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return;
  if (depth > MOST_DEPTH) throw new Error(`it is nested more than ${MOST_DEPTH} levels deep, or circular`);
  for (const part of Object.values(value)) checkDepth(part, depth + 1);
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
