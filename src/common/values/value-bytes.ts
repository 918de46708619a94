import { types } from 'node:util';
import { contentsOf } from './compact.js';

/** V8 may store a character in one byte; what is counted does not depend on that. */
const CHARACTER_BYTES = 2;

/**
 * Returns the bytes of the typed arrays, buffers and strings in a value that can be cloned. What occurs twice counts once,
 * and keys, numbers and the like do not count.
 */
export function bytesIn(value: unknown): number {
  let bytes = 0;
  const seen = new Set<object>();
  const rest: unknown[] = [value];
  while (rest.length > 0) {
    const next = rest.pop();
    if (typeof next === 'string') bytes += CHARACTER_BYTES * next.length;
    if (typeof next !== 'object' || next === null || seen.has(next)) continue;
    seen.add(next);
    if (ArrayBuffer.isView(next) || types.isAnyArrayBuffer(next)) bytes += next.byteLength;
    // Not by a spread: there may be more than a call takes arguments.
    else for (const content of contentsOf(next)) rest.push(content);
  }
  return bytes;
}
