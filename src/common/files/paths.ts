import { resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { check, type Rule } from '../checks.js';
import { messageOf } from '../errors.js';
import { isUrl } from '../values/realm.js';

const EXPECTED = 'a path or a file: URL';

/** More than any system takes. */
const MOST_CHARACTERS = 65_536;

/** Whether the value names a file: a path, a `file:` URL, or the text of one, as `import.meta.resolve()` returns it. */
export const isPath: Rule = (value) => {
  if (!isUrl(value) && (typeof value !== 'string' || value === '')) return EXPECTED;
  const { length } = typeof value === 'string' ? value : value.href;
  if (length > MOST_CHARACTERS) return `${EXPECTED} of at most ${MOST_CHARACTERS} characters`;
  const url = urlIn(value);
  try {
    const path = url === undefined ? (value as string) : fileURLToPath(url);
    if (path.includes('\0')) return `${EXPECTED} without a NUL`;
    if (url !== undefined && /^file:[^/]/i.test(url)) return `${EXPECTED} (a file: URL is absolute: file:///…)`;
    return undefined;
  } catch (cause) {
    const isElsewhere = !/^file:/i.test(url as string);
    const advice = isElsewhere ? 'save the file on this machine first, and name it there' : 'name the path instead';
    return `${EXPECTED} (${messageOf(cause)}: ${advice})`;
  }
};

/**
 * Returns the absolute path that the path or `file:` URL means. A relative path begins at the working directory.
 *
 * @param where names the value in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` for a value that {@link isPath} refuses.
 */
export function absolutePath(where: string, path: string | URL): string {
  check(where, path, isPath);
  const url = urlIn(path);
  return resolve(url === undefined ? (path as string) : fileURLToPath(url));
}

/**
 * Returns the URL by which Node imports the module. A query and a hash stay, because with another one the module is
 * another instance.
 *
 * @param where names the value in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` for a value that {@link isPath} refuses.
 */
export function moduleUrl(where: string, module: string | URL): string {
  const { href } = pathToFileURL(absolutePath(where, module));
  const url = urlIn(module);
  if (url === undefined) return href;
  const { search, hash } = new URL(url);
  return `${href}${search}${hash}`;
}

/**
 * Returns the text of a URL; undefined for a path. No path begins with a scheme and two slashes, or with a scheme that
 * Node knows; other names may have a colon.
 */
function urlIn(path: string | URL): string | undefined {
  if (typeof path !== 'string') return path.href;
  return /^((file|https?|data|blob|node):|[a-z][a-z\d+.-]*:\/\/)/i.test(path) ? path : undefined;
}
