import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isDeepStrictEqual } from 'node:util';
import { isObject } from '../../common/checks.js';
import { InfermuxError, messageOf, unreadableInput } from '../../common/errors.js';
import type { DeploymentOptions } from '../config/deployment-options.js';

/** A deployment as a checkpoint has it. */
export interface SavedDeployment {
  /** What the program asked for when it started; null for one that was created later. */
  readonly declared: DeploymentOptions | null;
  /** What it is to be; null for one that was deleted. */
  readonly options: DeploymentOptions | null;
}

export type SavedDeployments = Readonly<Record<string, SavedDeployment>>;

/**
 * What there is to be at the start: a deployment that is declared as it was when the checkpoint was written is what became of it,
 * another begins as it is declared; those that were created later are there again.
 */
export function restoreDeployments(
  declared: Readonly<Record<string, DeploymentOptions>>,
  saved: SavedDeployments,
  log: (name: string, what: string) => void,
): SavedDeployments {
  const wanted = new Map<string, SavedDeployment>();
  for (const [name, own] of Object.entries(declared)) {
    const before = Object.hasOwn(saved, name) ? saved[name] : undefined;
    const isAsBefore = before !== undefined && isDeepStrictEqual(asSaved(toSaved(own)), before.declared);
    wanted.set(name, { declared: own, options: isAsBefore ? fromSaved(before.options, own) : own });
    if (before !== undefined && !isAsBefore)
      log(name, 'the deployment is declared otherwise than before, and begins anew');
  }
  for (const [name, before] of Object.entries(saved)) {
    if (Object.hasOwn(declared, name)) continue;
    if (before.declared === null) wanted.set(name, before);
    else log(name, 'the deployment is declared no more, and left out');
  }
  return Object.fromEntries(wanted);
}

/**
 * Options as they are now, whatever the caller does with its own later and wherever the next process is started.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for what cannot be copied, and so not go to other threads.
 */
export function copyOptions(where: string, options: DeploymentOptions): DeploymentOptions {
  try {
    // What is no object is refused by name elsewhere.
    if (isObject(options) !== undefined) return options;
    return Object.fromEntries(
      Object.entries(options).map(([key, value]) => [key, copyOf(`${where}.${key}`, key, value)]),
    );
  } catch (cause) {
    throw unreadableInput(where, cause);
  }
}

function copyOf(where: string, key: string, value: unknown): unknown {
  // It stays on this thread, and it is that one which is meant.
  if (key === 'router') return value;
  if (key === 'handler' && value !== undefined) return addressOf(value as string | URL);
  try {
    return structuredClone(value);
  } catch (cause) {
    const message = `${where} must be plain data, since it goes to other threads: ${messageOf(cause)}`;
    throw new InfermuxError('INVALID_ARGUMENT', message, { cause });
  }
}

function addressOf(handler: string | URL): string {
  const text = handler instanceof URL ? handler.href : handler;
  const isPath = typeof text === 'string' && text !== '' && !/^[a-z][a-z\d+.-]+:/i.test(text);
  return isPath ? pathToFileURL(resolve(text)).href : text;
}

/** In the place of a router that is code. */
const DECLARED_ROUTER = 'declared';

/** As a checkpoint has them: a router that is code is the program's to declare. */
export function toSaved(options: DeploymentOptions): object {
  return typeof options.router === 'object' ? { ...options, router: DECLARED_ROUTER } : options;
}

/** What can be said of saved options before the program's router is in its place. */
export function withoutDeclaredRouter(options: DeploymentOptions): DeploymentOptions {
  return (options.router as unknown) === DECLARED_ROUTER ? { ...options, router: undefined } : options;
}

function fromSaved(options: DeploymentOptions | null, declared: DeploymentOptions): DeploymentOptions | null {
  const isDeclared = (options?.router as unknown) === DECLARED_ROUTER;
  return isDeclared ? { ...options, router: declared.router } : options;
}

/** @throws InfermuxError `FAILED_PRECONDITION` for options that a checkpoint cannot carry. */
export function checkSavable(where: string, given: object): void {
  const plain = withoutUndefined(given) as Readonly<Record<string, unknown>>;
  const key = Object.keys(plain).find((name) => !isDeepStrictEqual(asSaved(plain[name]), plain[name]));
  if (key === undefined) return;
  const message = `${where}: ${key} cannot be written to a checkpoint, which carries what JSON does`;
  throw new InfermuxError('FAILED_PRECONDITION', message);
}

/** What is undefined counts as absent, however deep. */
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
