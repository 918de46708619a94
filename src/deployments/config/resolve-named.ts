import { messageOf, readingInput, show } from '../../common/errors.js';
import type { DeploymentOptions, ResolvedDeploymentOptions } from './deployment-options.js';
import { resolveDeployment } from './resolve-deployment.js';
import type { RouterLoader } from './router-loader.js';
import { isRouterModule } from './router-module.js';

/**
 * Checks the options of a deployment, fills in the defaults and loads its router.
 *
 * @param before the options in force: their router stays the same when the new ones name the same.
 */
export async function resolveNamed(
  name: string,
  given: DeploymentOptions,
  defaultReplicas: number,
  routers: RouterLoader,
  before?: ResolvedDeploymentOptions,
): Promise<ResolvedDeploymentOptions> {
  const where = `deployment ${show(name)}`;
  const resolved = readingInput(where, () => resolveDeployment(where, given, defaultReplicas));
  return routers.load(where, resolved, before);
}

/** The same for options of a checkpoint: their router can be corrected once the engine runs, so it may be gone. */
export async function resolveSaved(
  name: string,
  saved: DeploymentOptions,
  defaultReplicas: number,
  routers: RouterLoader,
  warn: (reason: string) => void,
): Promise<ResolvedDeploymentOptions> {
  try {
    return await resolveNamed(name, saved, defaultReplicas, routers);
  } catch (error) {
    if (!isRouterModule(saved.router)) throw error;
    warn(messageOf(error));
    return resolveNamed(name, { ...saved, router: undefined }, defaultReplicas, routers);
  }
}
