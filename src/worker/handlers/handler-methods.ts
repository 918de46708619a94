import { InfermuxError, show, showNames } from '../../common/errors.js';
import { HANDLER_FUNCTIONS, type Handler, type HandlerContext } from '../../contracts/handler.js';

type Method = (request: unknown, context: HandlerContext) => unknown;

/**
 * Returns the function of the handler that takes a request that names it.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` with the names that there are.
 */
export function methodOf(handler: Handler, name: string): Method {
  const functions = handler as Readonly<Record<string, unknown>>;
  const method = isMethodName(name) ? functions[name] : undefined;
  if (typeof method === 'function') return (request, context) => method.call(handler, request, context);
  const names = namesIn(handler).filter((each) => isMethodName(each) && typeof functions[each] === 'function');
  throw new InfermuxError(
    'INVALID_ARGUMENT',
    `the handler has no method ${show(name)}; there are: ${showNames(names)}`,
  );
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
