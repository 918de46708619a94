import { createHash } from 'node:crypto';
import { basename, dirname } from 'node:path';
import { InfermuxError, show } from '../../common/errors.js';
import { shownUrl } from '../cache/remote-file.js';
import type { CacheThread } from '../cache/thread/cache-thread.js';
import type { KeptModel } from '../cache/thread/messages.js';
import type { FoundModel } from '../registered-model.js';
import { describedModel, readDescribed } from '../sources/described-model.js';
import { ModelFileReader } from '../sources/model-files.js';
import { folderManifest, isNamedByFolder } from '../sources/model-folder.js';
import { inMemory } from '../sources/model-sources.js';
import type { CheckedFind } from './finder.js';

/** A find whose files are there. */
export interface RealizedFind {
  readonly model: FoundModel;
  readonly origin: string;
}

export interface RealizeTerms {
  readonly cache: Pick<CacheThread, 'fetch' | 'keep'>;
  /** Larger models are refused. */
  readonly maxModelBytes: number;
  /** Whether its manifest may pin it. */
  readonly mayPin: boolean;
  readonly signal: AbortSignal;
}

/**
 * Brings what a finder has found to where replicas can load it.
 *
 * @param wanted the version that was asked for.
 * @returns undefined when there is nothing where the finder says.
 * @throws InfermuxError `MODEL_LOAD_FAILED`, `FAILED_PRECONDITION`, `INVALID_ARGUMENT`; the reason of the signal.
 */
export async function realizeFind(
  id: string,
  wanted: number | undefined,
  find: CheckedFind,
  terms: RealizeTerms,
): Promise<RealizedFind | undefined> {
  const { place, sha256, manifest } = find;
  const version = versionOf(id, wanted, find);
  if (place.kind === 'bytes') {
    checkBytes(id, place.bytes, find, terms.maxModelBytes);
    const { batching, session, weights, pinned = false, warmUp, licence } = manifest;
    const settings = { batching, session, weights, isPinned: terms.mayPin && pinned, warmUp, licence };
    return { model: { id, version, ...settings, ...inMemory(id, place.bytes), isFound: true }, origin: 'memory' };
  }
  if (place.kind === 'path') {
    const { path } = place;
    const beside = isNamedByFolder(basename(path)) ? await folderManifest(dirname(path)) : { manifest: {}, paths: [] };
    const own = { ...beside.manifest, ...manifest, ...(sha256 !== undefined && { sha256 }) };
    const described = { id, version, path, manifests: beside.paths, manifest: own };
    const { model } = await readDescribed(described, new ModelFileReader(), terms.mayPin);
    checkSize(id, model.bytes, find, terms.maxModelBytes);
    return { model: { ...model, isFound: true }, origin: path };
  }
  const kept = await keptModel(`${id}@${version}`, place, find, terms);
  if (kept === undefined) return undefined;
  // Its hash was checked when it came.
  const model = describedModel({ id, version, path: kept.path, manifest }, kept.files, terms.mayPin);
  const origin = place.kind === 'url' ? shownUrl(place.file.url) : 'stream';
  return { model: { ...model, isFound: true }, origin };
}

function versionOf(id: string, wanted: number | undefined, { version, manifest }: CheckedFind): number {
  const found = version ?? manifest.version ?? wanted ?? 1;
  if (wanted === undefined || found === wanted) return found;
  const message = `the finder has found version ${found} of model ${show(id)} where version ${wanted} was asked for`;
  throw new InfermuxError('INVALID_ARGUMENT', message);
}

function keptModel(
  name: string,
  place: Extract<CheckedFind['place'], { readonly kind: 'url' | 'stream' }>,
  { size: bytes, sha256, manifest }: CheckedFind,
  { cache, signal }: RealizeTerms,
): Promise<KeptModel | undefined> {
  const hash = sha256 ?? (typeof manifest.sha256 === 'string' ? manifest.sha256 : undefined);
  const expected = { bytes, sha256: hash };
  if (place.kind === 'stream')
    return cache.keep({ ...expected, name, fileName: 'model.onnx', pieces: place.stream }, signal);
  const { file } = place;
  const fileName = file.url.pathname.endsWith('.ort') ? 'model.ort' : 'model.onnx';
  return cache.fetch({ ...expected, name: `${name} ${shownUrl(file.url)}`, fileName, file }, signal);
}

function checkSize(id: string, bytes: number, { size }: CheckedFind, maxModelBytes: number): void {
  const expected = size !== undefined && bytes !== size ? `expected ${size}` : undefined;
  const most = bytes > maxModelBytes ? `maxModelBytes allows ${maxModelBytes}` : undefined;
  if (expected === undefined && most === undefined) return;
  const message = `model ${show(id)} has ${bytes} bytes; ${expected ?? most}`;
  throw new InfermuxError('MODEL_LOAD_FAILED', message, { retryable: false });
}

function checkBytes(id: string, bytes: Uint8Array, find: CheckedFind, maxModelBytes: number): void {
  checkSize(id, bytes.byteLength, find, maxModelBytes);
  const { sha256: expected } = find;
  const sha256 = expected === undefined ? undefined : createHash('sha256').update(bytes).digest('hex');
  if (sha256 === expected?.toLowerCase()) return;
  const message = `model ${show(id)} has SHA-256 ${sha256}; expected ${expected?.toLowerCase()}`;
  throw new InfermuxError('MODEL_LOAD_FAILED', message, { retryable: false });
}
