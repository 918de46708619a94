import { availableParallelism } from 'node:os';
import { checkOptions, isBoolean, isInteger, isObject, isOneOf, type Rule, satisfies } from '../../common/checks.js';
import { InfermuxError, show } from '../../common/errors.js';
import { readSession, type SessionOptions } from '../../contracts/session-settings.js';

/*
 * A `model.json` comes with its model, from whoever made or deployed it. So it may set what makes the model right or fast,
 * and nothing that writes or reads other files, writes to stderr, loads libraries or carries addresses of memory.
 */

const MOST_PROVIDERS = 16;
const MOST_DEVICE_ID = 255;
/** Most bits of CoreML's flags. */
const MOST_FLAGS = 255;

const anything: Rule = () => undefined;

/** A rule of {@link readSession} holds for those without one here. */
const OPTIONS: Readonly<Partial<Record<keyof SessionOptions, Rule>>> = {
  executionProviders: satisfies(
    (value) => Array.isArray(value) && value.length <= MOST_PROVIDERS,
    `an array of at most ${MOST_PROVIDERS}`,
  ),
  intraOpNumThreads: anything,
  interOpNumThreads: anything,
  graphOptimizationLevel: anything,
  executionMode: isOneOf(['sequential', 'parallel']),
  enableCpuMemArena: isBoolean,
  enableMemPattern: isBoolean,
  enableGraphCapture: isBoolean,
  extra: anything,
};

const PROVIDER_OPTIONS: Readonly<Record<string, Rule>> = {
  name: anything,
  deviceId: isInteger({ lowest: 0, highest: MOST_DEVICE_ID }),
  useArena: isBoolean,
  preferredLayout: isOneOf(['NCHW', 'NHWC']),
  coreMlFlags: isInteger({ lowest: 0, highest: MOST_FLAGS }),
  useCPUOnly: isBoolean,
  useCPUAndGPU: isBoolean,
  enableOnSubgraph: isBoolean,
  onlyEnableDeviceWithANE: isBoolean,
};

const isFlag = isOneOf(['0', '1']);

/** By the whole name, with dots between its parts. */
const EXTRA: Readonly<Record<string, Rule>> = {
  'session.intra_op.allow_spinning': isFlag,
  'session.inter_op.allow_spinning': isFlag,
  'session.force_spinning_stop': isFlag,
  'session.set_denormal_as_zero': isFlag,
  'session.disable_prepacking': isFlag,
  'session.use_deterministic_compute': isFlag,
  'session.strict_shape_type_inference': isFlag,
  'session.disable_quant_qdq': isFlag,
  'session.disable_double_qdq_remover': isFlag,
  'session.enable_quant_qdq_cleanup': isFlag,
  'session.qdqisint8allowed': isFlag,
  'session.x64quantprecision': isFlag,
  'session.qdq_matmulnbits_accuracy_level': isOneOf(['0', '1', '2', '3', '4']),
  'session.dynamic_block_base': satisfies(
    (value) => typeof value === 'string' && /^\d{1,3}$/.test(value),
    'digits in a string',
  ),
  'optimization.enable_gelu_approximation': isFlag,
  'optimization.enable_cast_chain_elimination': isFlag,
  'optimization.disable_specified_optimizers': satisfies(
    (value) => typeof value === 'string' && /^[\w;]{1,1000}$/.test(value),
    'names of optimizers with ";" between',
  ),
  'mlas.enable_gemm_fastmath_arm64_bfloat16': isFlag,
};

/** Deeper ones are no names of options. */
const MOST_LEVELS = 16;
const THREADS = ['intraOpNumThreads', 'interOpNumThreads'];

/**
 * Returns a copy of the `session` of a `model.json`. Threads beyond the cores of this machine are cut: a manifest may
 * have been written on a larger one.
 *
 * @param where names the settings in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` for an option that a manifest must not set, and for a value of the wrong form.
 */
export function readManifestSession(
  where: string,
  session: Readonly<Record<string, unknown>>,
  cores = availableParallelism(),
): Readonly<Record<string, unknown>> {
  checkListed(where, '', session, OPTIONS);
  // First, since a manifest may have any number of others.
  checkExtra(`${where}.extra`, session['extra']);
  const settings = readSession(where, session);
  const { executionProviders: providers = [] } = session as SessionOptions;
  for (const provider of providers) {
    if (typeof provider !== 'string')
      checkListed(`${where}.executionProviders`, ' of a provider', provider, PROVIDER_OPTIONS);
  }
  const numbered = THREADS.filter((key) => typeof settings[key] === 'number');
  const cut = numbered.map((key) => [key, Math.min(Number(settings[key]), cores)]);
  return { ...settings, ...Object.fromEntries(cut) };
}

function checkExtra(where: string, extra: unknown): void {
  if (isObject(extra) !== undefined) return;
  const leaves = new Map<string, unknown>();
  for (const [name, value] of leavesOf(extra as object)) {
    // onnxruntime-node would get both.
    if (leaves.has(name)) throw new InfermuxError('INVALID_ARGUMENT', `${where} sets ${show(name)} twice`);
    leaves.set(name, value);
    if (!Object.hasOwn(EXTRA, name)) break;
  }
  checkListed(where, '', Object.fromEntries(leaves), EXTRA);
}

function checkListed(where: string, ofWhat: string, given: object, rules: Readonly<Record<string, Rule>>): void {
  const other = Object.keys(given).find((key) => !Object.hasOwn(rules, key));
  if (other === undefined) {
    checkOptions(where, given, rules);
    return;
  }
  const known = Object.keys(rules).join(', ');
  throw new InfermuxError(
    'INVALID_ARGUMENT',
    `${where}: a model.json must not set ${show(other)}${ofWhat}; it may set only ${known}. All other options belong to the program: give them as "session" to createEngine, to a deployment, or to the model in options.models`,
  );
}

/** The values of nested objects, by their names with dots between. onnxruntime-node joins them in the same way. */
function* leavesOf(value: object, before: readonly string[] = []): IterableIterator<[string, unknown]> {
  for (const [key, part] of Object.entries(value)) {
    const path = [...before, key];
    if (part !== null && typeof part === 'object' && path.length < MOST_LEVELS) yield* leavesOf(part, path);
    else yield [path.join('.'), part];
  }
}
