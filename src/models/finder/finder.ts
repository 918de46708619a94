import {
  checkOptions,
  hasMethods,
  isBoolean,
  isFunction,
  isInteger,
  isMilliseconds,
  isObject,
  type Rule,
  satisfies,
} from '../../common/checks.js';
import { InfermuxError, show } from '../../common/errors.js';
import { absolutePath, isPath } from '../../common/files/paths.js';
import { type Bytes, bytesOf, isBytes, isUrl } from '../../common/values/realm.js';
import { iteratorOf, keepErrors } from '../../common/values/streams.js';
import { hasCredentials, type RemoteFile, type SignRequest } from '../cache/remote-file.js';
import { checkManifest, isHash, type Manifest } from '../sources/manifest.js';

/** Finds models that are not in a directory. It is called on the thread of `createEngine`. */
export interface ModelFinder {
  /**
   * Returns where a model is. It is called once for all requests that wait for the model.
   *
   * @param id as requests name it.
   * @returns undefined if there is no such model.
   */
  find(id: string, terms: FindTerms): FoundSource | undefined | null | Promise<FoundSource | undefined | null>;
  /** Ids of the models that can be found, for `repository.loadOnStart` and `infermux models`. */
  list?(): Iterable<string> | AsyncIterable<string> | Promise<Iterable<string>>;
  /** Maximum milliseconds of `find`. Default 30000. */
  readonly timeoutMs?: number | undefined;
  /**
   * Minimum milliseconds between two searches for the same model. A request after that time starts a new search; until
   * it ends, the old version is served. Default -1: never.
   */
  readonly refreshMs?: number | undefined;
}

export interface FindTerms {
  /** The requested version, as in `id@2`; undefined for the id alone. */
  readonly version: number | undefined;
  /** Aborted when no request waits for the model any more, and when `find` takes too long. */
  readonly signal: AbortSignal;
}

/**
 * Where a model is: its path, its `https:` URL, its bytes, a stream of them, or an object with one of these and more
 * facts.
 */
export type FoundSource = string | URL | Bytes | AsyncIterable<Uint8Array> | DescribedSource;

/** Where a model is, with facts about it. Exactly one of `path`, `url`, `bytes` and `stream` is required. */
export interface DescribedSource {
  /** Path or `file:` URL. */
  readonly path?: string | URL | undefined;
  /** It is downloaded into the cache, with external data from the same folder. */
  readonly url?: string | URL | undefined;
  /** Headers of the request for the URL. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Signs each request. */
  readonly sign?: SignRequest | undefined;
  /** Whether the URL may begin with `http:`. Default false. */
  readonly allowHttp?: boolean | undefined;
  /** The model itself. It is written to the cache. */
  readonly bytes?: Bytes | undefined;
  /** A web stream, a `Readable` or another async iterable of bytes. It is written to the cache. */
  readonly stream?: AsyncIterable<Uint8Array> | undefined;
  /** A positive integer. Default: the version in the manifest, the requested one, or 1. */
  readonly version?: number | undefined;
  /** SHA-256 of the model's file, in hexadecimal digits. A file in the cache with this hash is not downloaded again. */
  readonly sha256?: string | undefined;
  /** Bytes of the model's file. */
  readonly size?: number | undefined;
  /** As in a `model.json`. */
  readonly manifest?: Manifest | undefined;
}

/** A source as the engine uses it. */
export interface CheckedFind {
  readonly place:
    | { readonly kind: 'path'; readonly path: string }
    | { readonly kind: 'bytes' | 'stream'; readonly stream: AsyncIterable<Uint8Array> }
    | { readonly kind: 'url'; readonly file: RemoteFile };
  readonly version: number | undefined;
  readonly sha256: string | undefined;
  readonly size: number | undefined;
  readonly manifest: Manifest;
}

export interface ResolvedFinder extends Pick<ModelFinder, 'find' | 'list'> {
  readonly timeoutMs: number;
  /** -1: never. */
  readonly refreshMs: number;
}

const TIMEOUT_MS = 30_000;

const isIterable = (value: unknown) =>
  typeof (value as Partial<AsyncIterable<unknown>> | null)?.[Symbol.asyncIterator] === 'function';

/** Whether the value is a finder. Arrays and bytes have a method of that name, too. */
export function isFinder(value: unknown): value is ModelFinder {
  if (Array.isArray(value) || ArrayBuffer.isView(value)) return false;
  return typeof (value as Partial<ModelFinder> | null)?.find === 'function';
}

/** @throws InfermuxError `INVALID_ARGUMENT` that does not show them: they may hold secrets. */
export function checkHeaders(where: string, given: unknown): Readonly<Record<string, string>> {
  try {
    if (isObject(given) === undefined) return Object.fromEntries(new Headers({ ...(given as Record<string, string>) }));
  } catch {
    // Its message shows the value.
  }
  throw new InfermuxError('INVALID_ARGUMENT', `${where} must be an object of headers; one of them is none`);
}

const RULES: Readonly<Record<keyof DescribedSource, Rule>> = {
  path: isPath,
  // They may hold secrets, which messages would show.
  url: () => undefined,
  headers: () => undefined,
  sign: isFunction,
  allowHttp: isBoolean,
  bytes: satisfies(isBytes, 'a Uint8Array or an ArrayBuffer'),
  stream: satisfies(isIterable, 'a stream of bytes'),
  version: isInteger({ lowest: 1 }),
  sha256: satisfies(isHash, '64 hexadecimal digits'),
  size: isInteger({ lowest: 0 }),
  manifest: isObject,
};

/** @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value. */
export function checkFinder(where: string, finder: unknown): ResolvedFinder {
  const expectation = hasMethods('a finder', ['find'])(finder);
  if (expectation !== undefined) throw new InfermuxError('INVALID_ARGUMENT', `${where} must be ${expectation}`);
  const given = finder as ModelFinder;
  const { timeoutMs = TIMEOUT_MS, refreshMs = -1 } = checkOptions(
    where,
    { timeoutMs: given.timeoutMs, refreshMs: given.refreshMs },
    { timeoutMs: isMilliseconds({ lowest: 1 }), refreshMs: isMilliseconds({ lowest: 0, or: -1 }) },
  );
  const list = given.list === undefined ? undefined : () => given.list?.() ?? [];
  return { find: (id, terms) => given.find(id, terms), ...(list && { list }), timeoutMs, refreshMs };
}

/**
 * Reads what a finder has answered.
 *
 * @param where names the answer in messages.
 * @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value.
 */
export function checkFound(where: string, answer: unknown): CheckedFind {
  if (isWebUrl(answer)) return checkDescribed(where, { url: answer as URL });
  if (typeof answer === 'string' || isUrl(answer)) return checkDescribed(where, { path: answer });
  if (isBytes(answer)) return checkDescribed(where, { bytes: answer });
  if (isIterable(answer)) return checkDescribed(where, { stream: answer as AsyncIterable<Uint8Array> });
  if (isObject(answer) === undefined) return checkDescribed(where, answer as DescribedSource);
  const expected = 'a path, a URL, bytes, a stream, an object with one of them, or undefined';
  throw new InfermuxError('INVALID_ARGUMENT', `${where} must be ${expected}, got ${show(answer)}`);
}

function checkDescribed(where: string, given: DescribedSource): CheckedFind {
  const source = checkOptions(where, given, RULES);
  const { path, url, bytes, stream, version, sha256, size, headers = {}, sign, allowHttp = false } = source;
  if ([path, url, bytes, stream].filter((each) => each !== undefined).length !== 1)
    throw new InfermuxError('INVALID_ARGUMENT', `${where} must have one of path, url, bytes and stream`);
  const manifest = source.manifest === undefined ? {} : checkManifest(source.manifest, `${where}.manifest`);
  const common = { version, sha256, size, manifest };
  if (path !== undefined) return { ...common, place: { kind: 'path', path: absolutePath(`${where}.path`, path) } };
  if (bytes !== undefined) return { ...common, place: { kind: 'bytes', stream: inOnePiece(bytesOf(bytes)) } };
  if (stream !== undefined) return { ...common, place: { kind: 'stream', stream } };
  const file = {
    url: checkUrl(`${where}.url`, url),
    headers: checkHeaders(`${where}.headers`, headers),
    sign,
    allowHttp,
  };
  return { ...common, place: { kind: 'url', file } };
}

async function* inOnePiece(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** The stream that a finder has answered with, if it has. @throws what a getter of the answer throws. */
function streamOf(answer: unknown): AsyncIterable<Uint8Array> | undefined {
  const { stream = answer } = (answer ?? {}) as { readonly stream?: unknown };
  return isIterable(stream) ? (stream as AsyncIterable<Uint8Array>) : undefined;
}

/** Call it at once with what a finder answers: it may be a stream that fails before it is read. */
export function keepErrorsOf(answer: unknown): void {
  try {
    keepErrors(streamOf(answer) ?? {});
  } catch {
    // Whoever reads the answer is told.
  }
}

/** Cancels the stream that a finder has answered with, if it has: nobody reads it. */
export function discardFound(answer: unknown): void {
  const discard = async () => {
    const stream = streamOf(answer);
    if (stream !== undefined) await iteratorOf(stream).return?.();
  };
  discard().catch(() => undefined);
}

/** Whether it is meant as a URL of the web, or of something like it, rather than as a path. */
function isWebUrl(value: unknown): boolean {
  return (typeof value === 'string' || isUrl(value)) && /^(?!file:)[a-z][a-z\d+.-]+:\/\//i.test(String(value));
}

/** @throws InfermuxError `INVALID_ARGUMENT` that does not show the URL: what follows its path may be a secret. */
export function checkUrl(where: string, value: unknown): URL {
  const text = typeof value === 'string' || isUrl(value) ? String(value) : '';
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !/^https?:$/.test(url.protocol)) {
    const got = url === undefined ? `got ${value === undefined ? 'undefined' : 'none'}` : `got one of ${url.protocol}`;
    throw new InfermuxError('INVALID_ARGUMENT', `${where} must be an https: or http: URL, ${got}`);
  }
  if (!hasCredentials(url)) return url;
  throw new InfermuxError('INVALID_ARGUMENT', `${where} must have no password in it: name it in headers`);
}
