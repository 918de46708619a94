import { checkOptions, hasMethods, isObject, isOneOf, type Rule } from '../../common/checks.js';
import { InfermuxError } from '../../common/errors.js';
import { isPath, moduleUrl } from '../../common/files/paths.js';
import { isSameData } from '../../common/values/realm.js';
import {
  type RequestRouter,
  ROUTER_NAMES,
  type RouterModule,
  type RouterName,
} from '../../contracts/request-router.js';
import type { ResolvedDeploymentOptions } from './deployment-options.js';
import { readUserConfig } from './user-config.js';

/** A router that a module exports. */
export interface ResolvedRouterModule {
  /** URL of the module. */
  readonly module: string;
  readonly options: unknown;
  /** Undefined until the module is imported. */
  readonly router: RequestRouter | undefined;
}

export const isRouter: Rule = (value) => {
  if (typeof value === 'string') return isOneOf(ROUTER_NAMES)(value);
  if (isRouterModule(value)) return undefined;
  return hasMethods('the name of a router, { module, options? }, or a router', ['chooseReplicas'])(value);
};

/** Whether the option names the module of a router, and is none itself. */
export function isRouterModule(value: unknown): value is RouterModule {
  return isObject(value) === undefined && !('chooseReplicas' in (value as object)) && 'module' in (value as object);
}

/** Copies the option. @throws InfermuxError `INVALID_ARGUMENT`. */
export function readRouterModule(where: string, given: RouterModule): RouterModule {
  const { module, options } = checkOptions(where, given, { module: isPath, options: () => undefined });
  const url = moduleUrl(`${where}.module`, module);
  return options === undefined
    ? { module: url }
    : { module: url, options: readUserConfig(`${where}.options`, options) };
}

export function resolveRouter(
  where: string,
  router: RouterName | RequestRouter | RouterModule,
): ResolvedDeploymentOptions['router'] {
  if (!isRouterModule(router)) return router;
  const { module, options } = readRouterModule(where, router);
  return { module: module as string, options, router: undefined };
}

/** Whether both options mean the same router: a user's own is the same only if it is the same object. */
export function isSameRouter(
  left: ResolvedDeploymentOptions['router'],
  right: ResolvedDeploymentOptions['router'],
): boolean {
  if (!isModule(left) || !isModule(right)) return left === right;
  return left.module === right.module && isSameData(left.options, right.options);
}

/** Returns the options with the router itself in the place of what names it. */
export function withRouter(
  options: ResolvedDeploymentOptions,
): Omit<ResolvedDeploymentOptions, 'router'> & { readonly router: RouterName | RequestRouter } {
  const { router } = options;
  if (!isModule(router)) return { ...options, router };
  if (router.router === undefined) throw new InfermuxError('INTERNAL', `router ${router.module} was not imported`);
  return { ...options, router: router.router };
}

/** Whether the checked option names a module. */
export function isModule(router: ResolvedDeploymentOptions['router']): router is ResolvedRouterModule {
  return typeof router === 'object' && !('chooseReplicas' in router);
}
