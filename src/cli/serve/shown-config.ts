import { types } from 'node:util';
import type { ServeConfig } from '../../server/config.js';

/** Keys whose values nobody should read over a shoulder or in a log. */
const SECRET = /^(keys|adminKeys|key)$/;

/** The configuration as JSON, without secrets. What is no data is named by its class. */
export function shownConfig(config: ServeConfig): string {
  return JSON.stringify(config, shown, 2);
}

function shown(key: string, value: unknown): unknown {
  if (SECRET.test(key) && value !== undefined && !isFileOfKeys(value)) return '(secret)';
  if (typeof value === 'function') return '(function)';
  if (value !== null && typeof value === 'object' && !isData(value)) return `(${value.constructor?.name ?? 'object'})`;
  return value;
}

function isFileOfKeys(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'file' in value;
}

/** Loggers, registries and bytes are no data that could be read again. */
function isData(value: object): boolean {
  if (Array.isArray(value) || 'href' in value) return true;
  if (types.isTypedArray(value)) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
