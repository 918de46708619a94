import { checkOptions, isInteger, isObject, isText, type Rule, satisfies } from '../common/checks.js';
import { InfermuxError, messageOf } from '../common/errors.js';

/** An execution provider by name, or with options of its own: `{ name: 'cuda', deviceId: 0 }`. */
export type ExecutionProvider = string | { readonly name: string };

/**
 * Passed through to onnxruntime-node's `InferenceSession.create`, whose own `SessionOptions` fit as they are. Keys that it
 * does not know it ignores.
 */
export interface SessionOptions {
  /** In order of preference. Default `['cpu']`. One that is not available fails the load. */
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
  /** 0 verbose … 4 fatal. Default 4: errors come as exceptions. */
  readonly logSeverityLevel?: 0 | 1 | 2 | 3 | 4 | undefined;
  readonly logVerbosityLevel?: number | undefined;
  readonly externalData?: readonly unknown[] | undefined;
  readonly preferredOutputLocation?: unknown;
  readonly freeDimensionOverrides?: Readonly<Record<string, number>> | undefined;
  /** Further settings of onnxruntime, by its own names, as nested objects of strings. */
  readonly extra?: Readonly<Record<string, unknown>> | undefined;
}

const LEVELS = ['disabled', 'basic', 'extended', 'layout', 'all'];
/** More threads within one operator are a typing error, and would take the process's memory. */
const MOST_THREADS = 1_024;
/** Deeper ones are an attack on the stack of whoever walks through them. */
const MOST_DEPTH = 32;

/** Keys that infermux knows the form of; the rest is onnxruntime-node's to judge. */
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
 * A copy of settings for `InferenceSession.create`, which replicas that start later get too.
 *
 * @param where names the settings in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` for keys of the wrong form, and for what cannot go to another thread.
 */
export function readSession<T extends object>(where: string, session: T): T {
  const known = Object.fromEntries(Object.entries(session).filter(([key]) => Object.hasOwn(RULES, key)));
  checkOptions(where, known, RULES);
  try {
    checkDepth(session);
    return structuredClone(Object.fromEntries(Object.entries(session).filter(([, value]) => value !== undefined))) as T;
  } catch (cause) {
    const message = `${where} must be plain data, since it goes to other threads: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
}

/**
 * A cycle survives a clone, and would end the process in onnxruntime-node.
 *
 * @throws Error for what is nested too deep.
 */
export function checkDepth(value: unknown, depth = 0): void {
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return;
  if (depth > MOST_DEPTH) throw new Error(`it is nested more than ${MOST_DEPTH} deep, or a circular structure`);
  for (const part of Object.values(value)) checkDepth(part, depth + 1);
}

function isProvider(value: unknown): boolean {
  if (typeof value === 'string') return value !== '';
  return isObject(value) === undefined && isText((value as { name?: unknown }).name) === undefined;
}

/** Names of the execution providers that the settings name. */
export function providersOf({ executionProviders }: { readonly executionProviders?: unknown }): string[] {
  if (!Array.isArray(executionProviders)) return [];
  return executionProviders.map((provider: string | { name: string }) =>
    typeof provider === 'string' ? provider : provider.name,
  );
}

/** The settings with this device for all execution providers but `cpu` that name none of their own. */
export function onDevice<T extends { readonly executionProviders?: unknown }>(settings: T, deviceId: number): T {
  const { executionProviders } = settings;
  if (!Array.isArray(executionProviders)) return settings;
  const onIt = executionProviders.map((provider: string | { name: string }) => {
    const named = typeof provider === 'string' ? { name: provider } : provider;
    return named.name === 'cpu' ? provider : { deviceId, ...named };
  });
  return { ...settings, executionProviders: onIt };
}
