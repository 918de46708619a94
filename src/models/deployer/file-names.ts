import { InfermuxError, show } from '../../common/errors.js';
import { checkModelId } from '../../common/model-id.js';
import { versionOf } from '../sources/model-folder.js';

/** Names that Windows reserves for devices, with any suffix. */
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)(\.|$)/i;
/** Longest file name on common file systems, in bytes. */
const MOST_BYTES = 255;
/** Most characters of a path: the least that systems allow. */
const MOST_CHARACTERS = 4_096;

/**
 * Checks the name of a model or version before its folder is created.
 *
 * @throws InfermuxError `INVALID_ARGUMENT`.
 */
export function checkNewId(target: unknown): { id: string; version: number | undefined } {
  checkModelId(target);
  const [id = '', version, ...more] = target.split('@');
  const reason = whyNoName(id);
  if (reason !== undefined) throw new InfermuxError('INVALID_ARGUMENT', `model id ${show(target)}: ${reason}`);
  if (more.length > 0 || (version !== undefined && versionOf(version) === undefined)) {
    throw new InfermuxError(
      'INVALID_ARGUMENT',
      `model id ${show(target)}: after "@" a version is expected, a positive integer of at most ${Number.MAX_SAFE_INTEGER}`,
    );
  }
  return { id, version: version === undefined ? undefined : Number(version) };
}

/**
 * Checks the name of a file before it is written in a folder; `/` separates folders in it.
 *
 * @throws InfermuxError `INVALID_ARGUMENT`.
 */
export function checkFileName(name: string): void {
  const isLong = name.length > MOST_CHARACTERS;
  const reason = isLong
    ? `a path must not have more than ${MOST_CHARACTERS} characters`
    : name
        .split('/')
        .map(whyNoName)
        .find((one) => one !== undefined);
  if (reason !== undefined) throw new InfermuxError('INVALID_ARGUMENT', `file ${show(name)}: ${reason}`);
}

/** Why the name is not allowed on every system; undefined when it is. */
function whyNoName(name: string): string | undefined {
  if (name.trim() === '') return 'a name must not be blank, and a path must not begin or end with "/"';
  if (name === '..' || name === '.') return 'it must not lead out of its folder';
  if (name.startsWith('.')) return 'a name must not begin with "."';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the check is for these characters.
  if (/[\u0000-\u001f\u007f]/.test(name)) return 'a name must not hold control characters';
  if (/[/\\:*?"<>|]/.test(name)) return 'a name must not hold any of / \\ : * ? " < > |';
  if (/[. ]$/.test(name)) return 'a name must not end with "." or a space';
  if (RESERVED.test(name)) return 'the name is reserved on Windows';
  if (Buffer.byteLength(name) > MOST_BYTES) return `a name must not be longer than ${MOST_BYTES} bytes`;
  // A lone surrogate is written as another character, so the file could not be found again.
  return name.isWellFormed() ? undefined : 'a name must be well-formed Unicode';
}
