import { createHash, timingSafeEqual } from 'node:crypto';
import { readFileSync, unwatchFile, watchFile } from 'node:fs';
import { isObject, isText } from '../common/checks.js';
import { messageOf } from '../common/errors.js';
import { type EngineLogger, InfermuxError } from '../index.js';

/** How often the key file is looked at. */
const LOOK_MS = 1_000;

/**
 * The keys of those who may ask. Their hashes are compared, each in the same time: neither the time nor the length of a
 * wrong key tells anything about a right one.
 */
export class ApiKeys {
  readonly #file: string | undefined;
  readonly #logger: EngineLogger | undefined;
  #hashes: readonly Buffer[];

  /** @throws InfermuxError `INVALID_ARGUMENT` for a file that cannot be read or has no key. */
  constructor(keys: readonly string[] | { readonly file: string }, logger: EngineLogger | undefined) {
    this.#logger = logger;
    this.#file = 'file' in keys ? keys.file : undefined;
    this.#hashes = ('file' in keys ? readKeys(keys.file) : keys).map(hashOf);
    if (this.#file !== undefined) watchFile(this.#file, { interval: LOOK_MS, persistent: false }, this.#reload);
  }

  has(given: string | undefined): boolean {
    if (given === undefined) return false;
    const hash = hashOf(given);
    let isKnown = false;
    for (const own of this.#hashes) isKnown = timingSafeEqual(own, hash) || isKnown;
    return isKnown;
  }

  close(): void {
    if (this.#file !== undefined) unwatchFile(this.#file, this.#reload);
  }

  readonly #reload = () => {
    try {
      this.#hashes = readKeys(this.#file as string).map(hashOf);
      this.#logger?.info({ file: this.#file, keys: this.#hashes.length }, 'keys were read again');
    } catch (error) {
      // The keys before go on: an editor may be writing the file.
      this.#logger?.warn({ file: this.#file, reason: (error as Error).message }, 'keys could not be read');
    }
  };
}

const LEAST_KEY_CHARACTERS = 8;

function isKey(key: unknown): boolean {
  return typeof key === 'string' && key.length >= LEAST_KEY_CHARACTERS && /^[\x21-\x7e]+$/.test(key);
}

/** @throws InfermuxError `INVALID_ARGUMENT`, which shows no key. */
export function checkKeys(where: string, given: readonly string[] | { readonly file: string } | undefined): void {
  const isRight =
    given === undefined ||
    (Array.isArray(given)
      ? given.length > 0 && given.every(isKey)
      : isObject(given) === undefined && isText((given as { file?: unknown }).file) === undefined);
  if (isRight) return;
  const message = `${where} must be a list of keys of at least ${LEAST_KEY_CHARACTERS} printable characters, or { file }`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

function hashOf(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}

function readKeys(file: string): string[] {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new InfermuxError('INVALID_ARGUMENT', `the key file ${file} cannot be read: ${messageOf(cause)}`, { cause });
  }
  const keys = text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
  if (!keys.every(isKey)) {
    const message = `the key file ${file} must have keys of at least ${LEAST_KEY_CHARACTERS} printable characters, one on each line`;
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  if (keys.length > 0) return keys;
  throw new InfermuxError('INVALID_ARGUMENT', `the key file ${file} has no key; one on each line is expected`);
}

/** Returns the key in the headers of a request, or in the metadata of a call. @param read one of them. */
export function keyIn(read: (name: string) => string | undefined): string | undefined {
  const own = read('x-api-key');
  if (own !== undefined) return own;
  const match = /^Bearer +(\S+) *$/i.exec(read('authorization') ?? '');
  return match?.[1];
}
