import { dirname, join } from 'node:path';
import type { Clock } from '../../common/clock.js';
import { InfermuxError, messageOf, show } from '../../common/errors.js';
import { isNotThere, isUnanswered } from '../../common/files/system-errors.js';
import { CacheEntries, type CacheEntriesEnvironment, type CacheRecord } from './cache-entries.js';
import { download, type Expected, Silence, whyWrong } from './download.js';
import { type CachedFile, entryFolderOf, nameKey } from './entry-files.js';
import { externalDataOf, type FoundFiles, GatheredFiles, readFinished } from './gathered-files.js';
import { PartialFile } from './partial-file.js';
import { fetchFailed, type RemoteFile } from './remote-file.js';
import { nextPiece } from './stream-pieces.js';

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

/** A file of a model on a server, by the name that it has beside the others. */
interface WantedFile {
  readonly file: RemoteFile;
  readonly name: string;
  readonly expected: Expected;
}

/** The files of a model in the work folder, or the entry that holds them already. */
type Gathered = { readonly files: FoundFiles } | { readonly unchanged: CacheRecord };

/** A model whose files change while they are fetched is fetched again so often. */
const MOST_ATTEMPTS = 3;
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
    const { file, fileName } = model;
    const own = { file, name: fileName, expected: this.#expected(model) };
    return this.#find(model, signal, true, async (work, before) => {
      for (let attempt = 1; ; attempt += 1) {
        const gathered = new GatheredFiles(work, before && { record: before, folder: this.#entries.folderOf(before) });
        if (!(await this.#fetchFile(own, gathered, signal))) return undefined;
        const names = await externalDataOf(dirname(gathered.pathOf(fileName)), fileName);
        if (names.length > 0) await gathered.noteFinished();
        for (const name of names) await this.#fetchBeside(file, name, gathered, signal);
        // What lies beside it may be of another model that was put there meanwhile.
        if (names.length > 0 && (await this.#hasChanged(own, gathered, signal))) {
          if (attempt === MOST_ATTEMPTS) throw fetchFailed(file.url, 'it changes again and again', true);
          continue;
        }
        return before !== undefined && gathered.isUnchanged ? { unchanged: before } : { files: await gathered.all() };
      }
    });
  }

  /**
   * Writes a model that comes piece by piece to the disk, and returns its path.
   *
   * @throws InfermuxError `MODEL_LOAD_FAILED` when it is not what was expected, or cannot be read to its end;
   *   `FAILED_PRECONDITION` when the cache cannot be used; the reason of the signal.
   */
  async keep(model: StreamedModel, signal: AbortSignal): Promise<string> {
    return (await this.#find(model, signal, false, async (work) => {
      const place = join(work, model.fileName);
      const file = await this.#writeStream(model, place, signal);
      const [beside] = await externalDataOf(work, model.fileName);
      if (beside !== undefined) {
        const what = `needs ${show(beside)} beside it, which a stream cannot bring: find a URL or a path`;
        throw new InfermuxError('MODEL_LOAD_FAILED', `model ${show(model.name)} ${what}`, { retryable: false });
      }
      return { files: { [model.fileName]: file } };
    })) as string;
  }

  /** The model's file was used: others leave before it. */
  used(path: string): void {
    const folder = entryFolderOf(this.#directory, path);
    if (folder !== undefined) this.#entries.used(folder);
  }

  /** Removes the folder of an entry. */
  async remove(folder: string): Promise<void> {
    await this.#entries.remove(folder);
  }

  /** The model with this path is used, or not wanted: until then its files stay. */
  settle(path: string): void {
    this.#entries.settle(dirname(path));
  }

  #expected({ bytes, sha256 }: WantedModel): Expected {
    return { bytes, sha256, mostBytes: this.#maxModelBytes };
  }

  /**
   * @param isRepeatable whether it may be got again, and what another process has just found under the name will do.
   * @param get returns the files in the work folder, or the record of an entry that holds them already.
   */
  async #find(
    model: WantedModel,
    signal: AbortSignal,
    isRepeatable: boolean,
    get: (work: string, before: CacheRecord | undefined) => Promise<Gathered | undefined>,
  ): Promise<string | undefined> {
    const key = nameKey(model.name);
    for (let attempt = 1; ; attempt += 1) {
      this.#entries.open();
      try {
        return await this.#entries.alone(key, signal, (since) =>
          this.#findAlone(model, key, isRepeatable ? since : undefined, get),
        );
      } catch (cause) {
        if (cause instanceof InfermuxError || signal.aborted) throw cause;
        // Somebody has removed an entry in this moment.
        if (isRepeatable && isNotThere(cause) && attempt < MOST_ATTEMPTS) continue;
        const message = `the cache of models cannot be written: ${messageOf(cause)}`;
        throw new InfermuxError('FAILED_PRECONDITION', message, { cause, retryable: isUnanswered(cause) });
      }
    }
  }

  /** @param waitedSince since when another thread has worked on the name, if what it has found will do. */
  async #findAlone(
    model: WantedModel,
    key: string,
    waitedSince: number | undefined,
    get: (work: string, before: CacheRecord | undefined) => Promise<Gathered | undefined>,
  ): Promise<string | undefined> {
    const { fileName } = model;
    const expected = this.#expected(model);
    const same = await this.#withContents(fileName, expected);
    if (same !== undefined) return same;
    const known = this.#entries.recall(key);
    const main = known?.record.files[fileName];
    const before = main !== undefined && whyWrong(main, expected) === undefined ? known?.record : undefined;
    if (before !== undefined && waitedSince !== undefined && (known?.foundAt ?? 0) >= waitedSince)
      return this.#pathOf(key, before);
    const work = this.#entries.workFolder(key);
    // It stays while the server is asked whether it is still right.
    const folder = before && this.#entries.folderOf(before);
    if (folder !== undefined) this.#entries.reserve(folder);
    try {
      const found = await get(work, before);
      if (found === undefined) return undefined;
      if ('unchanged' in found) return this.#pathOf(key, found.unchanged);
      const record = await this.#entries.enter(key, work, fileName, found.files);
      return join(this.#entries.folderOf(record), record.model);
    } finally {
      if (folder !== undefined) this.#entries.settle(folder);
    }
  }

  /** The path of a model that the cache has by its hash. */
  async #withContents(fileName: string, expected: Expected): Promise<string | undefined> {
    const sha256 = expected.sha256?.toLowerCase();
    const found = sha256 === undefined ? undefined : this.#entries.withContents(fileName, sha256);
    if (sha256 === undefined || found === undefined) return undefined;
    const { path, bytes } = found;
    if (whyWrong({ bytes, sha256 }, expected) !== undefined) return undefined;
    const folder = dirname(path);
    return this.#entries.reserving(folder, async () => {
      this.#entries.used(folder);
      // The hash of its folder is that of one file without more beside it.
      return (await externalDataOf(folder, fileName)).length === 0 ? path : undefined;
    });
  }

  #pathOf(key: string, record: CacheRecord): Promise<string> {
    const folder = this.#entries.folderOf(record);
    return this.#entries.reserving(folder, async () => {
      this.#entries.note(key, record);
      return join(folder, record.model);
    });
  }

  async #fetchBeside(file: RemoteFile, name: string, gathered: GatheredFiles, signal: AbortSignal): Promise<void> {
    const url = new URL(name.split('/').map(encodeURIComponent).join('/'), file.url);
    // A signature may be in the query.
    url.search = file.url.search;
    const expected = { bytes: undefined, sha256: undefined, mostBytes: this.#maxModelBytes - gathered.bytes };
    if (!(await this.#fetchFile({ file: { ...file, url }, name, expected }, gathered, signal)))
      throw fetchFailed(url, 'the model names it, and it is not there', false);
    await gathered.noteFinished();
  }

  /** Whether the server has another file than the one that was gathered. */
  async #hasChanged(wanted: WantedFile, gathered: GatheredFiles, signal: AbortSignal): Promise<boolean> {
    const { file, name, expected } = wanted;
    const known = gathered.find(name)?.validator;
    if (known === undefined || (known.etag ?? known.lastModified) === undefined) return false;
    const { clock, received } = this.#environment;
    const outcome = await download(file, join(gathered.work, name), { expected, known, signal, clock, received });
    return outcome !== 'unchanged';
  }

  /** @returns false when the server has no such file. */
  async #fetchFile(wanted: WantedFile, gathered: GatheredFiles, signal: AbortSignal): Promise<boolean> {
    const { file, name, expected } = wanted;
    const place = join(gathered.work, name);
    const finished = readFinished(place);
    const known = finished ?? gathered.before?.record.files[name];
    const { clock, received } = this.#environment;
    const terms = { expected, known: known?.validator, signal, clock, received };
    const outcome = await download(file, place, terms);
    if (outcome === undefined) return false;
    if (outcome !== 'unchanged') gathered.add(name, outcome);
    else {
      const wrong = known && whyWrong(known, expected);
      if (wrong !== undefined) throw fetchFailed(file.url, wrong, false);
      if (finished !== undefined) gathered.add(name, finished);
      else gathered.keep(name);
    }
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
    const silence = new Silence({ clock: this.#environment.clock, signal });
    try {
      if (bytes !== undefined && bytes > most) throw wrong(`has ${bytes} bytes; maxModelBytes allows ${most}`);
      const all = pieces[Symbol.asyncIterator]();
      for (let next = await silence.during(nextPiece(all, name)); next !== undefined; ) {
        writer.write(next);
        this.#environment.received(next.byteLength);
        if (writer.bytes > most)
          throw wrong(
            `has more than ${most} bytes, ${most === bytes ? 'as it was said to have' : 'which maxModelBytes allows'}`,
          );
        next = await silence.during(nextPiece(all, name));
      }
      const hash = await writer.finish();
      if (bytes !== undefined && writer.bytes !== bytes) throw wrong(`has ${writer.bytes} bytes; expected ${bytes}`);
      if (sha256 !== undefined && hash !== sha256.toLowerCase())
        throw wrong(`has SHA-256 ${hash}; expected ${sha256.toLowerCase()}`);
      partial.finish();
      return { bytes: writer.bytes, sha256: hash, validator: NO_VALIDATOR };
    } finally {
      silence.end();
      writer.close();
      partial.discard();
    }
  }
}
