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
 * Checks that each target of the endpoints will be there.
 *
 * @param find resolves to the name of a model that is there now, `id@version` if that is known.
 * @throws InfermuxError `MODEL_NOT_FOUND`, `FAILED_PRECONDITION` for a deployment.
 */
export async function checkTargets(
  endpoints: ReadonlyMap<string, Traffic>,
  end: EndState,
  find: (model: string) => Promise<string>,
): Promise<void> {
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

async function checkTarget(target: string, end: EndState, find: (model: string) => Promise<string>): Promise<void> {
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

async function checkModel(
  model: string,
  { coming, going }: EndState,
  find: (model: string) => Promise<string>,
): Promise<void> {
  const isComing = [...coming].some((name) => name === model || name.startsWith(`${model}@`));
  if (isComing) return;
  const name = await find(model);
  if (!going.has(name) && !going.has(model)) return;
  throw new InfermuxError('MODEL_NOT_FOUND', `model ${show(model)} would be unregistered`);
}
