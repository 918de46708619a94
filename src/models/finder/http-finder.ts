import { checkOptions, isMilliseconds, type Rule, satisfies } from '../../common/checks.js';
import { InfermuxError, messageOf, readingInput } from '../../common/errors.js';
import { fetchFailed, fetchFile, type RemoteFile, type SignRequest } from '../cache/remote-file.js';
import { isHash, type Manifest, MOST_MANIFEST_BYTES, parseManifest } from '../sources/manifest.js';
import { checkHeaders, checkUrl, type DescribedSource, type FindTerms, type ModelFinder } from './finder.js';

export interface HttpFinderOptions {
  /** The URL of the folder with the models: `<baseUrl>/<id>/model.onnx` or `<baseUrl>/<id>/<version>/model.onnx`. */
  readonly baseUrl: string | URL;
  /** Headers of each request. They are not sent to another server after a redirect. Default: none. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Signs each request, for stores that require it. Default: none. */
  readonly sign?: SignRequest | undefined;
  /** Whether to allow `http:`. Anyone on the network path can then change a model. Default false. */
  readonly allowHttp?: boolean | undefined;
  /**
   * Minimum milliseconds between two checks for a new version of a model. A request after that time starts a check;
   * until it ends, the old version is served. -1: never. Default 300000, five minutes.
   */
  readonly refreshMs?: number | undefined;
  /** Maximum milliseconds for the request of an index or a `model.json`. Default 30000. */
  readonly timeoutMs?: number | undefined;
}

/** A version in an `index.json`. */
interface IndexedVersion {
  /** URL of the model's file, relative to the model's folder, which it must not leave. */
  readonly file?: string;
  readonly sha256?: string;
  readonly size?: number;
}

/** By version. */
type ModelIndex = ReadonlyMap<number, IndexedVersion>;

const REFRESH_MS = 300_000;
const INDEX = 'index.json';
const MANIFEST = 'model.json';
const MODEL = 'model.onnx';

const RULES: Readonly<Record<keyof HttpFinderOptions, Rule>> = {
  // They may hold secrets, which messages would show.
  baseUrl: () => undefined,
  headers: () => undefined,
  sign: satisfies((value) => typeof value === 'function', 'a function'),
  allowHttp: satisfies((value) => typeof value === 'boolean', 'true or false'),
  refreshMs: isMilliseconds({ lowest: 0, or: -1 }),
  timeoutMs: isMilliseconds({ lowest: 1 }),
};

/**
 * Finds models on an HTTP server or in an object store. A `model.json` and external data are taken from the same folder
 * as the model's file. `<baseUrl>/<id>/index.json` can list versions: `{ "versions": { "1": { "sha256": "…" }, … } }`;
 * the id alone then means the highest one. Without it, the id alone means `<baseUrl>/<id>/model.onnx`.
 *
 * @throws InfermuxError `INVALID_ARGUMENT` with the path of the option, what was expected, and its value.
 */
export function httpFinder(options: HttpFinderOptions): ModelFinder {
  const { baseUrl, headers, sign, allowHttp, refreshMs, timeoutMs } = readingInput('httpFinder', () =>
    checkOptions('httpFinder', options, RULES),
  );
  const base = checkUrl('httpFinder.baseUrl', baseUrl);
  if (base.search !== '' || base.hash !== '')
    throw new InfermuxError('INVALID_ARGUMENT', 'httpFinder.baseUrl must end with its path: add to URLs with sign');
  if (base.protocol === 'http:' && allowHttp !== true) {
    const message =
      'httpFinder.baseUrl must be an https: URL: anyone on the network path can change what is sent over http:. allowHttp: true allows it';
    throw new InfermuxError('INVALID_ARGUMENT', message);
  }
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  const server = { headers: checkHeaders('httpFinder.headers', headers ?? {}), sign, allowHttp: allowHttp ?? false };
  return {
    find: (id, terms) => findOn(server, base, id, terms),
    refreshMs: refreshMs ?? REFRESH_MS,
    timeoutMs,
  };
}

async function findOn(
  server: Omit<RemoteFile, 'url'>,
  base: URL,
  id: string,
  { version, signal }: FindTerms,
): Promise<DescribedSource | undefined> {
  const folder = folderOf(base, id);
  if (folder === undefined) return undefined;
  const index = await indexOf({ ...server, url: new URL(INDEX, folder) }, signal);
  const wanted = version ?? (index && Math.max(...index.keys()));
  const indexed = wanted === undefined ? undefined : index?.get(wanted);
  if (index !== undefined && indexed === undefined) return undefined;
  const place = wanted === undefined ? folder : new URL(`${wanted}/`, folder);
  const url = indexed?.file === undefined ? new URL(MODEL, place) : new URL(indexed.file, folder);
  if (!url.href.startsWith(folder.href)) throw fetchFailed(folder, `${INDEX} names a file elsewhere`, false);
  const manifest = await manifestOf({ ...server, url: new URL(MANIFEST, url) }, signal);
  return {
    ...{ url, ...server, manifest, sha256: indexed?.sha256, size: indexed?.size },
    version: wanted ?? manifest.version ?? 1,
  };
}

/** The URL of the model's folder; undefined for an id that would lead elsewhere. */
function folderOf(base: URL, id: string): URL | undefined {
  const parts = id.split('/');
  // A URL with such a part leads to another folder, however it is encoded.
  if (parts.some((part) => part === '' || part === '.' || part === '..')) return undefined;
  const folder = new URL(`${parts.map(encodeURIComponent).join('/')}/`, base);
  return folder.href.startsWith(base.href) && folder.search === '' ? folder : undefined;
}

async function indexOf(file: RemoteFile, signal: AbortSignal): Promise<ModelIndex | undefined> {
  const text = await textOf(file, signal);
  if (text === undefined) return undefined;
  try {
    const { versions } = JSON.parse(text) as { versions?: Readonly<Record<string, IndexedVersion>> };
    if (Array.isArray(versions)) throw new Error('versions must be an object by version, got a list');
    const entries = Object.entries(versions ?? {});
    if (entries.length === 0) throw new Error('it names no versions');
    for (const [version, { file: name, sha256, size }] of entries) {
      if (!/^[1-9]\d{0,14}$/.test(version)) throw new Error(`${version} is no version`);
      const isRight =
        (name === undefined || typeof name === 'string') &&
        (sha256 === undefined || isHash(sha256)) &&
        (size === undefined || Number.isSafeInteger(size));
      if (!isRight) throw new Error(`version ${version} must be an object with file, sha256 and size, each optional`);
    }
    return new Map(entries.map(([version, about]) => [Number(version), about]));
  } catch (cause) {
    throw fetchFailed(file.url, `it is no index of a model: ${messageOf(cause)}`, false, cause);
  }
}

async function manifestOf(file: RemoteFile, signal: AbortSignal): Promise<Manifest> {
  const text = await textOf(file, signal);
  return text === undefined ? {} : parseManifest(text, `${file.url.origin}${file.url.pathname}`);
}

/** @returns undefined when there is no such file. */
async function textOf(file: RemoteFile, signal: AbortSignal): Promise<string | undefined> {
  const response = await fetchFile(file, {}, signal);
  const { status, body } = response;
  if (status !== 200) {
    await body?.cancel();
    // Some stores say 403 of what is not there. If it is about the key, the model's file says so.
    if ([401, 403, 404, 410].includes(status)) return undefined;
    throw fetchFailed(file.url, `the server answered ${status}`, status >= 500 || status === 429);
  }
  const pieces: Uint8Array[] = [];
  let bytes = 0;
  try {
    for await (const piece of body ?? []) {
      bytes += piece.byteLength;
      if (bytes > MOST_MANIFEST_BYTES)
        throw fetchFailed(file.url, `it has more than ${MOST_MANIFEST_BYTES} bytes`, false);
      pieces.push(piece);
    }
  } catch (cause) {
    if (cause instanceof InfermuxError) throw cause;
    throw fetchFailed(file.url, `it was cut off: ${messageOf(cause)}`, true, cause);
  }
  return Buffer.concat(pieces).toString('utf8');
}
