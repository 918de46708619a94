import { checkOptions, hasMethods, isObject, isOneOf, type Rule } from '../../common/checks.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { importFile } from '../../common/files/import-file.js';
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

/**
 * Imports the module of the router, if the options name one.
 *
 * @param before the options in force: their router stays the same when the new ones name the same.
 * @throws InfermuxError `INVALID_ARGUMENT` when it cannot be imported, or exports no router.
 */
export async function withLoadedRouter(
  where: string,
  options: ResolvedDeploymentOptions,
  before?: ResolvedDeploymentOptions,
): Promise<ResolvedDeploymentOptions> {
  const { router } = options;
  if (!isModule(router)) return options;
  if (before !== undefined && isSameRouter(before.router, router)) return { ...options, router: before.router };
  return Object.freeze({ ...options, router: { ...router, router: await importRouter(where, router) } });
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

function isModule(router: ResolvedDeploymentOptions['router']): router is ResolvedRouterModule {
  return typeof router === 'object' && !('chooseReplicas' in router);
}

async function importRouter(where: string, { module, options }: ResolvedRouterModule): Promise<RequestRouter> {
  let router: unknown;
  try {
    router = made((await importFile(module))['default'], options);
  } catch (cause) {
    const message = `${where}: router ${module} could not be imported: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
  if (hasMethods('', ['chooseReplicas'])(router) === undefined) return router as RequestRouter;
  const message = `${where}: the default export of ${module} must be a router, a class of routers, or a function that returns one: an object with chooseReplicas; got ${show(router)}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

function made(exported: unknown, options: unknown): unknown {
  if (typeof exported !== 'function') return exported;
  const isClass = typeof exported.prototype?.chooseReplicas === 'function';
  return isClass ? Reflect.construct(exported, [options]) : exported(options);
}
