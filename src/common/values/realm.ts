import { isDeepStrictEqual, types } from 'node:util';

/*
 * What a value is, whatever realm it comes from. A test runner or Electron runs a program in a context whose classes are
 * not the classes of Node's own modules, and jsdom brings classes of its own. `instanceof` is false for their objects.
 */

/** The content of a file in memory. */
export type Bytes = Uint8Array | ArrayBufferLike;

export function isBytes(value: unknown): value is Bytes {
  return types.isUint8Array(value) || types.isAnyArrayBuffer(value);
}

/** Returns a view of the bytes, not a copy. */
export function bytesOf(bytes: Bytes): Uint8Array {
  return types.isUint8Array(bytes) ? bytes : new Uint8Array(bytes);
}

/** Whether the value is a URL object. Links, locations and the results of `url.parse()` have no `searchParams`. */
export function isUrl(value: unknown): value is URL {
  if (value === null || typeof value !== 'object') return false;
  const { href, protocol, searchParams } = value as Partial<URL>;
  return typeof href === 'string' && typeof protocol === 'string' && typeof searchParams === 'object';
}

export function isAbortSignal(value: unknown): value is AbortSignal {
  if (value === null || typeof value !== 'object') return false;
  const { aborted, addEventListener, removeEventListener } = value as Partial<AbortSignal>;
  return (
    typeof aborted === 'boolean' && typeof addEventListener === 'function' && typeof removeEventListener === 'function'
  );
}

/** Whether the value is an error, or looks like one, as a DOMException does. */
export function isError(value: unknown): value is Error {
  if (value === null || typeof value !== 'object') return false;
  const { name, message } = value as Partial<Error>;
  return types.isNativeError(value) || (typeof name === 'string' && typeof message === 'string');
}

/** Whether the value is an object without a class. Maps, dates and instances of classes are not: their keys say nothing. */
export function isPlainObject(value: unknown): value is Readonly<Record<PropertyKey, unknown>> {
  if (value === null || typeof value !== 'object') return false;
  const prototype = Object.getPrototypeOf(value);
  // The prototype of a literal is its realm's Object.prototype, which alone has no prototype.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

/**
 * Whether both are the same data. Arrays and plain objects may come from different realms; other objects are compared by
 * `isDeepStrictEqual`. The data must not be circular.
 */
export function isSameData(left: unknown, right: unknown): boolean {
  if (Object.is(left, right)) return true;
  if (Array.isArray(left) && Array.isArray(right)) {
    return left.length === right.length && Array.from(left).every((item, index) => isSameData(item, right[index]));
  }
  if (!isPlainObject(left) || !isPlainObject(right)) return isDeepStrictEqual(left, right);
  const keys = Reflect.ownKeys(left);
  return (
    keys.length === Reflect.ownKeys(right).length &&
    keys.every((key) => Object.hasOwn(right, key) && isSameData(left[key], right[key]))
  );
}
