import { readFile, stat } from 'node:fs/promises';
import { extname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { InfermuxError } from '../../index.js';
import type { ServeConfig } from '../../server/config.js';
import { messageOf, quoted } from '../terminal/printable.js';

const KEYS = ['engine', 'server'];
const TYPESCRIPT = ['.ts', '.mts', '.cts'];

/**
 * Reads a configuration: JSON, or a module with it as its default export. TypeScript is read by Node itself where it can,
 * otherwise by jiti.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` for a file that cannot be read or is no configuration.
 */
export async function readConfigFile(path: string): Promise<ServeConfig> {
  let value: unknown;
  try {
    value = await load(resolve(path));
  } catch (cause) {
    throw new InfermuxError(
      'INVALID_ARGUMENT',
      `the configuration ${quoted(path)} cannot be read: ${messageOf(cause)}`,
      {
        cause,
      },
    );
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    const message = `the configuration ${quoted(path)} must be an object { engine, server }, as its default export`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  const other = Object.keys(value).find((key) => !KEYS.includes(key));
  if (other === undefined) return value as ServeConfig;
  const message = `the configuration ${quoted(path)} has an unknown key ${quoted(other)}; expected one of ${KEYS.join(', ')}`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

async function load(path: string): Promise<unknown> {
  if (!(await stat(path)).isFile()) throw new Error('it is not a regular file');
  const extension = extname(path);
  if (extension === '.json') return JSON.parse(await readFile(path, 'utf8'));
  const isTyped = TYPESCRIPT.includes(extension);
  const { features } = process as { readonly features: { readonly typescript?: unknown } };
  if (isTyped && (features.typescript ?? false) === false) return loadByJiti(path);
  try {
    const module = (await import(pathToFileURL(path).href)) as { readonly default?: unknown };
    return module.default;
  } catch (cause) {
    // Node 20 takes `export` for a mistake where no package.json says that .js files are modules.
    if (extension === '.js' && (cause as Error | null)?.name === 'SyntaxError') return loadByJiti(path);
    throw cause;
  }
}

async function loadByJiti(path: string): Promise<unknown> {
  const { createJiti } = await import('jiti');
  return createJiti(import.meta.url).import(path, { default: true });
}
