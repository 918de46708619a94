import { mkdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import type { Clock } from '../../common/clock.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { readTextFile } from '../../common/files/read-file.js';
import { isUnanswered, undefinedIfNotThere } from '../../common/files/system-errors.js';
import { isWithin } from '../sources/model-files.js';
import { readOnnxFile } from '../sources/onnx-file.js';
import {
  type CachedFile,
  CacheEntries,
  type CacheEntriesEnvironment,
  type CacheRecord,
  entryFolderOf,
  nameKey,
} from './cache-entries.js';
import { download, type Expected } from './download.js';
import { type FoundFiles, GatheredFiles } from './gathered-files.js';
import { PartialFile } from './partial-file.js';
import { fetchFailed, type RemoteFile } from './remote-file.js';

export interface ModelCacheOptions {
  readonly directory: string;
  readonly maxBytes: number;
  /** Larger models are refused. */
  readonly maxModelBytes: number;
}

export interface ModelCacheEnvironment extends CacheEntriesEnvironment {
  readonly clock: Clock;
  /** So many bytes of a model have come. */
  received(bytes: number): void;
}

export interface WantedModel {
  /** Names the model, whatever its URL looks like this time. */
  readonly name: string;
  /** What its file is to be called: `model.onnx` or `model.ort`. */
  readonly fileName: string;
  /** Bytes that its file must have. */
  readonly bytes: number | undefined;
  readonly sha256: string | undefined;
}

/** A model on a server. External data lies beside its file. */
export interface RemoteModel extends WantedModel {
  readonly file: RemoteFile;
}

/** A model that comes piece by piece. */
export interface StreamedModel extends WantedModel {
  readonly pieces: AsyncIterable<Uint8Array>;
}

const NO_VALIDATOR = { etag: undefined, lastModified: undefined };

/** Keeps models from elsewhere on the disk. */
export class ModelCache {
  readonly #entries: CacheEntries;
  readonly #directory: string;
  readonly #maxModelBytes: number;
  readonly #environment: ModelCacheEnvironment;

  constructor(options: ModelCacheOptions, environment: ModelCacheEnvironment) {
    this.#entries = new CacheEntries(options.directory, options.maxBytes, environment);
    this.#directory = options.directory;
    this.#maxModelBytes = options.maxModelBytes;
    this.#environment = environment;
  }

  /**
   * Returns the path of a model on a server. It is downloaded unless the cache has it and the server says, or the hash
   * shows, that it is the same.
   *
   * @returns undefined when the server has no such file.
   * @throws InfermuxError `MODEL_LOAD_FAILED`; `FAILED_PRECONDITION` when the cache cannot be used; the reason of the
   *   signal.
   */
  fetch(model: RemoteModel, signal: AbortSignal): Promise<string | undefined> {
    return this.#find(model, signal, async (work, before) => {
      const gathered = new GatheredFiles(work, before && { record: before, folder: this.#entries.folderOf(before) });
      const expected = { bytes: model.bytes, sha256: model.sha256, mostBytes: this.#maxModelBytes };
      const { file, fileName } = model;
      if (!(await this.#fetchFile(file, fileName, expected, gathered, signal))) return undefined;
      const names = await externalDataOf(dirname(gathered.pathOf(fileName)), fileName);
      if (names.length > 0) await gathered.noteFinished();
      for (const name of names) {
        const url = new URL(name.split('/').map(encodeURIComponent).join('/'), file.url);
        // A signature may be in the query.
        url.search = file.url.search;
        const mostBytes = this.#maxModelBytes - gathered.bytes;
        const beside = { bytes: undefined, sha256: undefined, mostBytes };
        if (!(await this.#fetchFile({ ...file, url }, name, beside, gathered, signal)))
          throw fetchFailed(url, 'the model names it, and it is not there', false);
        await gathered.noteFinished();
      }
      return gathered.isUnchanged ? before : gathered.all();
    });
  }

  /**
   * Writes a model that comes piece by piece to the disk, and returns its path.
   *
   * @throws InfermuxError `MODEL_LOAD_FAILED` when it is not what was expected, or cannot be read to its end;
   *   `FAILED_PRECONDITION` when the cache cannot be used; the reason of the signal.
   */
  async keep(model: StreamedModel, signal: AbortSignal): Promise<string> {
    const path = await this.#find(model, signal, async (work) => {
      const place = join(work, model.fileName);
      const file = await this.#writeStream(model, place, signal);
      return new Map([[model.fileName, file]]);
    });
    return path as string;
  }

  /** The model's file was used: others leave before it. */
  async used(path: string): Promise<void> {
    const folder = entryFolderOf(this.#directory, path);
    if (folder !== undefined) await this.#entries.used(folder);
  }

  /** Removes the folder of an entry. */
  async remove(folder: string): Promise<void> {
    await this.#entries.remove(folder);
  }

  /** @param get returns the files in the work folder, or the record of an entry that holds them already. */
  async #find(
    { name, sha256, fileName }: WantedModel,
    signal: AbortSignal,
    get: (work: string, before: CacheRecord | undefined) => Promise<FoundFiles | CacheRecord | undefined>,
  ): Promise<string | undefined> {
    await this.#entries.open();
    const key = nameKey(name);
    try {
      return await this.#entries.alone(key, signal, async (waitedSince) => {
        const known = await this.#entries.recall(key);
        if (known !== undefined) {
          const { record, foundAt } = known;
          // Another process has just looked.
          const isFresh = waitedSince !== undefined && foundAt >= waitedSince;
          const names = Object.keys(record.files);
          const isSame = names.length === 1 && record.files[fileName]?.sha256 === sha256?.toLowerCase();
          if (isFresh || isSame) return this.#pathOf(key, record);
        }
        const work = await this.#entries.workFolder(key);
        const found = await get(work, known?.record);
        if (found === undefined) return undefined;
        return this.#pathOf(key, 'entry' in found ? found : await this.#entries.enter(key, work, fileName, found));
      });
    } catch (cause) {
      this.#entries.lookAgain();
      if (cause instanceof InfermuxError || signal.aborted) throw cause;
      const message = `the cache of models cannot be written: ${messageOf(cause)}`;
      throw new InfermuxError('FAILED_PRECONDITION', message, { cause, retryable: isUnanswered(cause) });
    }
  }

  async #pathOf(key: string, record: CacheRecord): Promise<string> {
    await this.#entries.note(key, record);
    return join(this.#entries.folderOf(record), record.model);
  }

  /** @returns false when the server has no such file. */
  async #fetchFile(
    file: RemoteFile,
    name: string,
    expected: Expected,
    gathered: GatheredFiles,
    signal: AbortSignal,
  ): Promise<boolean> {
    const place = join(gathered.work, name);
    await mkdir(dirname(place), { recursive: true, mode: 0o700 });
    const finished = await readFinished(place);
    const known = finished ?? gathered.before?.record.files[name];
    const { clock, received } = this.#environment;
    const outcome = await download(file, place, { expected, known: known?.validator, signal, clock, received });
    if (outcome === undefined) return false;
    if (outcome !== 'unchanged') {
      gathered.add(name, outcome);
    } else if (finished !== undefined) gathered.add(name, finished);
    else gathered.keep(name);
    return true;
  }

  async #writeStream(
    { pieces, name, bytes, sha256 }: StreamedModel,
    place: string,
    signal: AbortSignal,
  ): Promise<CachedFile> {
    const partial = new PartialFile(place);
    const writer = await partial.open('start', NO_VALIDATOR);
    const wrong = (what: string) =>
      new InfermuxError('MODEL_LOAD_FAILED', `the stream of model ${show(name)} ${what}`, { retryable: false });
    const most = Math.min(this.#maxModelBytes, bytes ?? Number.POSITIVE_INFINITY);
    try {
      for await (const piece of readable(pieces, name)) {
        signal.throwIfAborted();
        await writer.write(piece);
        this.#environment.received(piece.byteLength);
        if (writer.bytes > most) throw wrong(`has more than ${most} bytes`);
      }
      const hash = await writer.sync();
      if (bytes !== undefined && writer.bytes !== bytes) throw wrong(`has ${writer.bytes} bytes; expected ${bytes}`);
      if (sha256 !== undefined && hash !== sha256.toLowerCase())
        throw wrong(`has SHA-256 ${hash}; expected ${sha256.toLowerCase()}`);
      await partial.finish();
      return { bytes: writer.bytes, sha256: hash, validator: NO_VALIDATOR };
    } finally {
      await writer.close();
      await partial.discard();
    }
  }
}

/** @throws InfermuxError `MODEL_LOAD_FAILED` with what the stream throws. */
async function* readable(pieces: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of pieces) {
      if (!(ArrayBuffer.isView(piece) && 'byteLength' in piece))
        throw new Error(`it gave ${show(piece)} instead of bytes`);
      yield piece;
    }
  } catch (cause) {
    if (cause instanceof InfermuxError) throw cause;
    const message = `the stream of model ${show(name)} failed: ${messageOf(cause)}`;
    throw new InfermuxError('MODEL_LOAD_FAILED', message, { cause, retryable: true });
  }
}

/** A file that an earlier process has downloaded whole, before it could finish the others. */
async function readFinished(place: string): Promise<CachedFile | undefined> {
  const found = await stat(place).catch(undefinedIfNotThere);
  if (found === undefined) return undefined;
  try {
    const file = JSON.parse((await readTextFile(`${place}.json`)).text) as CachedFile;
    return file.bytes === found.size ? file : undefined;
  } catch {
    return undefined;
  }
}

/** Names of the files beside the model's that it needs, none of which leads out of its folder. */
async function externalDataOf(folder: string, name: string): Promise<string[]> {
  const names = (await readOnnxFile(join(folder, name)))?.externalData ?? [];
  return [...new Set(names)].filter((each) => isWithin(folder, resolve(folder, each)));
}
