import { isObject } from '../../common/checks.js';
import { InfermuxError, messageOf, unreadableInput } from '../../common/errors.js';
import { moduleUrl } from '../../common/files/paths.js';
import { clone } from '../../common/values/clone.js';
import { isSameData } from '../../common/values/realm.js';
import { checkData, readSession } from '../../contracts/session-settings.js';
import type { DeploymentOptions } from '../config/deployment-options.js';
import { isRouterModule, readRouterModule } from '../config/router-module.js';
import { readUserConfig } from '../config/user-config.js';

/** A deployment as a checkpoint has it. */
export interface SavedDeployment {
  /** The options that the program declared when it started; null for a deployment that was created later. */
  readonly declared: DeploymentOptions | null;
  /** The options that it should have; null for a deployment that was deleted. */
  readonly options: DeploymentOptions | null;
  /** Id of the goal of its last change. */
  readonly goal?: string | undefined;
}

export type SavedDeployments = Readonly<Record<string, SavedDeployment>>;

/**
 * Returns the deployments to start with. A deployment that is declared as when the checkpoint was written gets its
 * saved options; one that is declared otherwise gets its declared options. Deployments that were created later come
 * back.
 */
export function restoreDeployments(
  declared: Readonly<Record<string, DeploymentOptions>>,
  saved: SavedDeployments,
  log: (name: string, what: string) => void,
): SavedDeployments {
  const wanted = new Map<string, SavedDeployment>();
  for (const [name, own] of Object.entries(declared)) {
    const before = Object.hasOwn(saved, name) ? saved[name] : undefined;
    const isAsBefore = before !== undefined && isSameData(asSaved(toSaved(own)), before.declared);
    const options = isAsBefore ? fromSaved(before.options, own) : own;
    wanted.set(name, { declared: own, options, goal: isAsBefore ? before.goal : undefined });
    if (before !== undefined && !isAsBefore)
      log(name, 'the deployment is declared with other options than before, and starts with those');
  }
  for (const [name, before] of Object.entries(saved)) {
    if (Object.hasOwn(declared, name)) continue;
    if (before.declared === null) wanted.set(name, before);
    else log(name, 'the deployment is no longer declared, and is not restored');
  }
  return Object.fromEntries(wanted);
}

/**
 * Returns a copy of the options that later changes by the caller do not reach. Paths become absolute, so that they do
 * not depend on the working directory of the next process.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a value that cannot be copied, and so cannot go to other threads.
 */
export function copyOptions(where: string, options: DeploymentOptions): DeploymentOptions {
  try {
    // The check of the options refuses a value that is no object.
    if (isObject(options) !== undefined) return options;
    return Object.fromEntries(
      Object.entries(options).map(([key, value]) => [key, copyOf(`${where}.${key}`, key, value)]),
    );
  } catch (cause) {
    throw unreadableInput(where, cause);
  }
}

function copyOf(where: string, key: string, value: unknown): unknown {
  // A router stays on this thread, and a copy would be another router.
  if (key === 'router') return isRouterModule(value) ? readRouterModule(where, value) : value;
  if (value === undefined) return value;
  // A clone of a URL is an empty object.
  if (key === 'handler') return moduleUrl(where, value as string | URL);
  if (key === 'session' && isObject(value) === undefined) return readSession(where, value as object);
  if (key === 'userConfig') return readUserConfig(where, value);
  try {
    checkData(value);
    return clone(value);
  } catch (cause) {
    const message = `${where} must be plain data, since it goes to other threads: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
}

/** Stands for a router that is code. */
const DECLARED_ROUTER = 'declared';

/** Returns the deployments as they are written to the checkpoint; an undefined one is left out of the JSON. */
export function savedForm(deployments: ReadonlyMap<string, SavedDeployment | undefined>): SavedDeployments {
  return Object.fromEntries(
    [...deployments].map(([name, saved]) => [
      name,
      saved && {
        declared: saved.declared && toSaved(saved.declared),
        options: saved.options && toSaved(saved.options),
        goal: saved.goal,
      },
    ]),
  ) as SavedDeployments;
}

/** Replaces a router that is code: only the program can declare it. */
function toSaved(options: DeploymentOptions): object {
  return isCode(options.router) ? { ...options, router: DECLARED_ROUTER } : options;
}

/** Returns saved options that can be checked before the program's router is back in its place. */
export function withoutDeclaredRouter(options: DeploymentOptions): DeploymentOptions {
  return (options.router as unknown) === DECLARED_ROUTER ? { ...options, router: undefined } : options;
}

/** Whether the option is a router itself, and not what names one. */
function isCode(router: DeploymentOptions['router']): boolean {
  return typeof router === 'object' && !isRouterModule(router);
}

function fromSaved(options: DeploymentOptions | null, declared: DeploymentOptions): DeploymentOptions | null {
  const isDeclared = (options?.router as unknown) === DECLARED_ROUTER;
  return isDeclared ? { ...options, router: declared.router } : options;
}

/** @throws InfermuxError `FAILED_PRECONDITION` for options that a checkpoint cannot carry. */
export function checkSavedDeployment(where: string, saved: SavedDeployment | undefined): void {
  if (saved === undefined || saved.options === null) return;
  const { router } = saved.options;
  if (isCode(router) && router !== saved.declared?.router) {
    const message = `${where}: a router of your own is code, which cannot be written to a checkpoint: name it where the engine is created, or name the module that exports it, or a router of infermux`;
    throw new InfermuxError('FAILED_PRECONDITION', message);
  }
  checkSavable(where, toSaved(saved.options));
}

/** @throws InfermuxError `FAILED_PRECONDITION` for a value that JSON cannot carry. */
export function checkSavable(where: string, given: object): void {
  const plain = withoutUndefined(given) as Readonly<Record<string, unknown>>;
  const key = Object.keys(plain).find((name) => !isSameData(asSaved(plain[name]), plain[name]));
  if (key === undefined) return;
  const message = `${where}: ${key} cannot be written to a checkpoint, which carries only JSON`;
  throw new InfermuxError('FAILED_PRECONDITION', message);
}

/** Removes undefined values at any depth, since they count as absent. */
function withoutUndefined(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withoutUndefined);
  if (isObject(value) !== undefined) return value;
  const entries = Object.entries(value as object).filter(([, own]) => own !== undefined);
  return Object.fromEntries(entries.map(([key, own]) => [key, withoutUndefined(own)]));
}

function asSaved(value: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(value));
  } catch {
    return undefined;
  }
}
