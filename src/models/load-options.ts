import { checkOptions, isBoolean, isInteger, isMilliseconds, isText, type Rule, satisfies } from '../common/checks.js';
import { type Clock, settlesWithin } from '../common/clock.js';
import { InfermuxError, show } from '../common/errors.js';
import type { DeployOptions, LoadOptions } from './model-manager-options.js';
import type { ModelReplicas } from './model-replicas.js';

export type ResolvedLoadOptions = { readonly [K in keyof LoadOptions]-?: NonNullable<LoadOptions[K]> };

const RULES: Readonly<Record<keyof LoadOptions, Rule>> = {
  deployment: isText,
  // The range depends on the deployment, which is checked first.
  replicas: () => undefined,
  pin: isBoolean,
  wait: isBoolean,
  retries: isInteger({ lowest: 0 }),
  timeoutMs: isMilliseconds({ lowest: 0, or: -1 }),
};

/**
 * Checks the options of a load and fills in their defaults.
 *
 * @throws InfermuxError `INVALID_ARGUMENT`; `FAILED_PRECONDITION` for a deployment that does not exist, or whose target
 *   is 0 replicas.
 */
export function readLoadOptions(options: LoadOptions, modelReplicas: ModelReplicas): ResolvedLoadOptions {
  const read = checkOptions('load', options, RULES);
  const { deployment = modelReplicas.defaultDeployment() } = read;
  const wanted = modelReplicas.wanted(deployment);
  if (wanted === 0) {
    const message = `deployment ${show(deployment)} has no replicas now, so nothing can be loaded there`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }
  const isCount = isInteger({ lowest: 1, highest: wanted });
  const expected = `'all' or an integer from 1 to ${wanted}, the number of replicas`;
  const isReplicas = satisfies((value) => value === 'all' || isCount(value) === undefined, expected);
  checkOptions('load', { replicas: read.replicas }, { replicas: isReplicas });
  const { replicas = 1, pin = false, wait = true, retries = 0, timeoutMs = -1 } = read;
  return { deployment, replicas, pin, wait, retries, timeoutMs };
}

export interface ResolvedDeployOptions {
  readonly verify: boolean;
  /** How to load the model; undefined: not. */
  readonly load: LoadOptions | undefined;
}

const DEPLOY_RULES: Readonly<Record<keyof DeployOptions, Rule>> = {
  verify: isBoolean,
  load: isBoolean,
  replicas: () => undefined,
  pin: isBoolean,
};

/** Checks the options and fills in their defaults. @throws InfermuxError as {@link readLoadOptions}. */
export function readDeployOptions(
  where: string,
  options: DeployOptions,
  modelReplicas: ModelReplicas,
): ResolvedDeployOptions {
  const { verify = true, load, replicas, pin } = checkOptions(where, options, DEPLOY_RULES);
  if (load === false && (replicas !== undefined || pin === true)) {
    const message = `${where}.load is false, and ${where} names ${pin === true ? 'pin' : 'replicas'}: leave out one`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const isLoaded = load ?? (replicas !== undefined || pin === true);
  if (isLoaded) readLoadOptions({ replicas, pin }, modelReplicas);
  // While no replica runs, nobody can try it.
  return { verify: verify && modelReplicas.running().length > 0, load: isLoaded ? { replicas, pin } : undefined };
}

/** @throws InfermuxError `DEADLINE_EXCEEDED` when the work takes longer, and goes on. @param timeoutMs -1: no limit. */
export async function within(clock: Clock, work: Promise<void>, timeoutMs: number, what: string): Promise<void> {
  if (timeoutMs === -1) return work;
  if (await settlesWithin(clock, work, timeoutMs)) return;
  throw new InfermuxError('DEADLINE_EXCEEDED', `the ${what} took longer than ${timeoutMs} ms; it continues`);
}
