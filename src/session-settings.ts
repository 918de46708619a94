import { checkOptions, isInteger, isObject, isText, type Rule, satisfies } from './check.js';
import { InfermuxError, messageOf } from './errors.js';

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
    checkDepth(session, 0);
    return structuredClone(Object.fromEntries(Object.entries(session).filter(([, value]) => value !== undefined))) as T;
  } catch (cause) {
    const message = `${where} must be plain data, since it goes to other threads: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
}

/** A cycle survives a clone, and would end the process in onnxruntime-node. */
function checkDepth(value: unknown, depth: number): void {
  if (value === null || typeof value !== 'object' || ArrayBuffer.isView(value)) return;
  if (depth > MOST_DEPTH) throw new Error(`it is nested more than ${MOST_DEPTH} deep, or a circular structure`);
  for (const part of Object.values(value)) checkDepth(part, depth + 1);
}

function isProvider(value: unknown): boolean {
  if (typeof value === 'string') return value !== '';
  return isObject(value) === undefined && isText((value as { name?: unknown }).name) === undefined;
}
