import {
  checkOptions,
  forLists,
  isBoolean,
  isInteger,
  isMilliseconds,
  isObject,
  type Rule,
  satisfies,
} from '../../common/checks.js';
import { InfermuxError } from '../../common/errors.js';
import type { Isolation, ProcessIsolation, ResolvedIsolation } from '../../contracts/isolation.js';

/** More start no sooner, and each takes memory. */
const MOST_SPARES = 64;
/** Node and onnxruntime alone take half of it. */
const LEAST_MEMORY_BYTES = 128 * 2 ** 20;
const LARGEST_ID = 2 ** 32 - 2;

export const isIsolation: Rule = satisfies(
  (value) => value === 'thread' || value === 'process' || isObject(value) === undefined,
  '"thread", "process" or an object with kind: "process"',
);

const isId = isInteger({ lowest: 0, highest: LARGEST_ID });

const PROCESS_RULES: Readonly<Record<keyof ProcessIsolation, Rule>> = {
  kind: satisfies((value) => value === 'process', '"process"'),
  memoryLimitBytes: isInteger({ lowest: LEAST_MEMORY_BYTES }),
  runTimeoutMs: isMilliseconds({ lowest: 1, or: -1 }),
  killCancelled: isBoolean,
  spares: isInteger({ lowest: 0, highest: MOST_SPARES }),
  env: satisfies(
    (value) =>
      isObject(value) === undefined && Object.values(value as object).every((each) => typeof each === 'string'),
    'an object of strings',
  ),
  execArgv: forLists(
    (value) => Array.isArray(value) && value.every((each) => typeof each === 'string'),
    'a list of strings',
  ),
  uid: isId,
  gid: isId,
};

/**
 * Checks the option and fills in the defaults.
 *
 * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for what this system cannot do.
 */
export function resolveIsolation(where: string, isolation: Isolation = 'thread'): ResolvedIsolation {
  if (isolation === 'thread') return 'thread';
  const given = isolation === 'process' ? { kind: isolation } : isolation;
  const { kind, ...options } = checkOptions<ProcessIsolation>(where, given, PROCESS_RULES);
  if (kind === undefined) {
    throw new InfermuxError('INVALID_ARGUMENT', `${where}.kind must be "process", and is missing`);
  }
  const { memoryLimitBytes } = options;
  if (memoryLimitBytes !== undefined && process.platform !== 'linux') {
    const message = `${where}.memoryLimitBytes is looked after on Linux alone, and this is ${process.platform}`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }
  return {
    kind,
    memoryLimitBytes,
    runTimeoutMs: options.runTimeoutMs ?? -1,
    killCancelled: options.killCancelled ?? false,
    spares: options.spares ?? 1,
    env: { ...options.env },
    execArgv: [...(options.execArgv ?? [])],
    uid: options.uid,
    gid: options.gid,
  };
}
