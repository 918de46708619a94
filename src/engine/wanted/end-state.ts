import { InfermuxError, show, showNames, toInfermuxError } from '../../common/errors.js';
import type { Traffic } from '../../endpoints/traffic.js';

/** What will be there when a state is reached, as far as endpoints may name it. */
export interface EndState {
  /** Whether each deployment has a handler, by name. */
  readonly deployments: ReadonlyMap<string, boolean>;
  /** Models that are registered, by `id@version` or, with a finder, by id. */
  readonly coming: ReadonlySet<string>;
  /** Models that are unregistered, likewise. */
  readonly going: ReadonlySet<string>;
}

/**
 * Resolves to the names of what answers requests for a model now: `id@version`, or as it is given when that is yet to be
 * found.
 *
 * @throws InfermuxError `MODEL_NOT_FOUND`.
 */
export type Find = (model: string) => Promise<readonly string[]>;

/**
 * Checks that each target of the endpoints will be there.
 *
 * @throws InfermuxError `MODEL_NOT_FOUND`, `FAILED_PRECONDITION` for a deployment.
 */
export async function checkTargets(endpoints: ReadonlyMap<string, Traffic>, end: EndState, find: Find): Promise<void> {
  const checked = new Set<string>();
  for (const [name, { traffic, shadow }] of endpoints) {
    for (const target of [...Object.keys(traffic), ...Object.keys(shadow)]) {
      if (checked.has(target)) continue;
      checked.add(target);
      try {
        await checkTarget(target, end, find);
      } catch (cause) {
        const { code, message } = toInfermuxError(cause);
        throw new InfermuxError(code, `endpoint ${show(name)}: ${message}`, { cause });
      }
    }
  }
}

async function checkTarget(target: string, end: EndState, find: Find): Promise<void> {
  const { deployments } = end;
  if (deployments.get(target) === true) return;
  const slash = target.indexOf('/');
  const deployment = slash === -1 ? undefined : target.slice(0, slash);
  const isDeployments = deployment !== undefined && deployments.has(deployment);
  // A handler may bring its own models.
  if (isDeployments && deployments.get(deployment) === true) return;
  if (isDeployments) {
    await checkModel(target.slice(slash + 1), end, find);
    return;
  }
  await checkModel(target, end, find).catch((cause: unknown) => {
    if (deployment === undefined) throw cause;
    const message = `no deployment ${show(deployment)} would be there; there would be: ${showNames([...deployments.keys()])}`;
    throw new InfermuxError('FAILED_PRECONDITION', message, { cause });
  });
}

async function checkModel(model: string, { coming, going }: EndState, find: Find): Promise<void> {
  // With a finder, any version may be found.
  const isComing = [...coming].some((name) => name === model || isVersion(name, model) || isVersion(model, name));
  if (isComing) return;
  const names = await find(model);
  if (names.some((name) => !going.has(name) && !going.has(name.split('@')[0] as string))) return;
  throw new InfermuxError('MODEL_NOT_FOUND', `model ${show(model)} would be unregistered`);
}

function isVersion(name: string, id: string): boolean {
  return name.startsWith(`${id}@`);
}
