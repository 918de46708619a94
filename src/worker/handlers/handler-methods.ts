import { InfermuxError, show, showNames } from '../../common/errors.js';
import { HANDLER_FUNCTIONS, type Handler, type HandlerContext } from '../../contracts/handler.js';

type Method = (this: Handler, request: unknown, context: HandlerContext) => unknown;

/**
 * Returns the function of the handler that takes a request that names it.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` with the names that there are.
 */
export function methodOf(handler: Handler, name: string): Method {
  const method = functionOf(handler, name);
  if (method !== undefined) return method;
  const names = namesIn(handler).filter((each) => functionOf(handler, each) !== undefined);
  throw new InfermuxError(
    'INVALID_ARGUMENT',
    `the handler has no method ${show(name)}; there are: ${showNames(names)}`,
  );
}

/** A getter is not called: it may do anything. */
function functionOf(handler: object, name: string): Method | undefined {
  if (!isMethodName(name)) return undefined;
  let owner: object | null = handler;
  while (owner !== null && !Object.hasOwn(owner, name)) owner = Object.getPrototypeOf(owner);
  const value: unknown = owner === null ? undefined : Object.getOwnPropertyDescriptor(owner, name)?.value;
  return typeof value === 'function' ? (value as Method) : undefined;
}

function isMethodName(name: string): boolean {
  return !(name in Object.prototype) && !(HANDLER_FUNCTIONS as readonly string[]).includes(name) && name !== 'default';
}

/** A handler may be a module, an object, or an instance of a class. */
function namesIn(handler: object): string[] {
  const prototype: object | null = Object.getPrototypeOf(handler);
  const inherited = prototype === null || prototype === Object.prototype ? [] : Object.getOwnPropertyNames(prototype);
  return [...new Set([...Object.keys(handler), ...inherited])];
}
