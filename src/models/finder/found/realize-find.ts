import { basename, dirname } from 'node:path';
import { InfermuxError, readingInput, show } from '../../../common/errors.js';
import { shownUrl } from '../../cache/remote-file.js';
import type { CacheThread } from '../../cache/thread/cache-thread.js';
import type { KeptModel } from '../../cache/thread/messages.js';
import type { FoundModel } from '../../registered-model.js';
import { describedModel, readDescribed } from '../../sources/described-model.js';
import type { Manifest } from '../../sources/manifest.js';
import { ModelFileReader } from '../../sources/model-files.js';
import { folderManifest, isNamedByFolder } from '../../sources/model-folder.js';
import { type CheckedFind, checkFound, discardFound } from '../finder.js';

/** A find whose files have been looked for. */
export interface RealizedFind {
  /** Undefined when there is nothing where the finder says. */
  readonly model: FoundModel | undefined;
  /** Where it is, for people. */
  readonly origin: string;
  /** Its files in the cache, which are to be settled. */
  readonly kept: KeptModel | undefined;
}

export interface RealizeTerms {
  readonly cache: Pick<CacheThread, 'fetch' | 'keep' | 'settle'>;
  /** Larger models are refused. */
  readonly maxModelBytes: number;
  /** Whether its manifest may pin it. */
  readonly mayPin: boolean;
  readonly signal: AbortSignal;
}

/**
 * Reads what a finder has answered. What it does not want of it is cancelled.
 *
 * @param wanted the version that was asked for.
 * @throws InfermuxError `INVALID_ARGUMENT`; `MODEL_LOAD_FAILED` when it is too large.
 */
export function readFound(id: string, wanted: number | undefined, answer: unknown, maxModelBytes: number): CheckedFind {
  const where = `what the finder found for model ${show(id)}`;
  try {
    const find = readingInput(where, () => checkFound(where, answer));
    versionOf(id, wanted, find);
    checkSize(id, find.size ?? 0, find, maxModelBytes);
    return find;
  } catch (cause) {
    discardFound(answer);
    throw cause;
  }
}

/**
 * Brings what a finder has found to where replicas can load it.
 *
 * @param wanted the version that was asked for.
 * @throws InfermuxError `MODEL_LOAD_FAILED`, `INVALID_ARGUMENT`; `FAILED_PRECONDITION` when the cache cannot be used; the
 *   reason of the signal.
 */
export async function realizeFind(
  id: string,
  wanted: number | undefined,
  find: CheckedFind,
  terms: RealizeTerms,
): Promise<RealizedFind> {
  const { place, sha256, manifest } = find;
  const version = versionOf(id, wanted, find);
  if (place.kind === 'path') {
    const { path } = place;
    const beside = isNamedByFolder(basename(path)) ? await folderManifest(dirname(path)) : { manifest: {}, paths: [] };
    const own = { ...beside.manifest, ...manifest, ...(sha256 !== undefined && { sha256 }) };
    const described = { id, version, path, manifests: beside.paths, manifest: own };
    const { model } = await readDescribed(described, new ModelFileReader(), terms.mayPin, 'MODEL_LOAD_FAILED');
    checkSize(id, model.bytes, find, terms.maxModelBytes);
    return { model: asFound(model, own), origin: path, kept: undefined };
  }
  const kept = await keptModel(`${id}@${version}`, place, find, terms);
  const origin = place.kind === 'url' ? shownUrl(place.file.url) : place.kind;
  if (kept === undefined) return { model: undefined, origin, kept };
  try {
    const own = sha256 === undefined ? manifest : { ...manifest, sha256 };
    const model = describedModel({ id, version, path: kept.path, manifest: own }, kept.files, terms.mayPin);
    return { model: asFound(model, own), origin, kept };
  } catch (cause) {
    terms.cache.settle(kept);
    throw cause;
  }
}

/** Other settings make another model of the same files. */
function asFound(model: FoundModel, manifest: Manifest): FoundModel {
  return { ...model, isFound: true, fingerprint: `${model.fingerprint}\n${JSON.stringify(manifest)}` };
}

function versionOf(id: string, wanted: number | undefined, { version, manifest }: CheckedFind): number {
  const found = version ?? manifest.version ?? wanted ?? 1;
  if (wanted === undefined || found === wanted) return found;
  const message = `the finder has found version ${found} of model ${show(id)} where version ${wanted} was asked for`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

function keptModel(
  name: string,
  place: Extract<CheckedFind['place'], { readonly kind: 'url' | 'bytes' | 'stream' }>,
  { size: bytes, sha256, manifest }: CheckedFind,
  { cache, signal }: RealizeTerms,
): Promise<KeptModel | undefined> {
  const hash = sha256 ?? (typeof manifest.sha256 === 'string' ? manifest.sha256 : undefined);
  const expected = { bytes, sha256: hash };
  if (place.kind !== 'url')
    return cache.keep({ ...expected, name, fileName: 'model.onnx', pieces: place.stream }, signal);
  const { file } = place;
  const fileName = file.url.pathname.endsWith('.ort') ? 'model.ort' : 'model.onnx';
  return cache.fetch({ ...expected, name: `${name} ${unsigned(file.url)}`, fileName, file }, signal);
}

/** The URL without a signature of this moment, as stores that speak S3 put it into the query. */
function unsigned(url: URL): string {
  const { searchParams, href } = new URL(url);
  const signed = [...searchParams.keys()].filter((key) => /^x-(amz|goog)-/i.test(key));
  if (signed.length === 0) return href;
  for (const key of signed) searchParams.delete(key);
  return `${url.origin}${url.pathname}?${searchParams}`;
}

function checkSize(id: string, bytes: number, { size }: CheckedFind, maxModelBytes: number): void {
  const expected = bytes === size || size === undefined ? undefined : `expected ${size}`;
  const most = bytes > maxModelBytes ? `maxModelBytes allows ${maxModelBytes}` : undefined;
  if (expected === undefined && most === undefined) return;
  const message = `model ${show(id)} has ${bytes} bytes; ${expected ?? most}`;
  throw new InfermuxError('MODEL_LOAD_FAILED', message, { retryable: false });
}
