import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { readTextFile } from '../../common/files/read-file.js';
import { undefinedIfNotThere } from '../../common/files/system-errors.js';

/** What tells whether a file on a server is still the same. */
export interface Validator {
  readonly etag: string | undefined;
  readonly lastModified: string | undefined;
}

/** The thread that hashes also answers requests, so each piece is short. */
const PIECE_BYTES = 2 ** 18;
const MODE = 0o600;

/** The value that says with which file the rest must go together: a strong ETag, or without any ETag a date. */
export function strongValidator({ etag, lastModified }: Validator): string | undefined {
  if (etag === undefined) return lastModified;
  return etag.startsWith('W/') ? undefined : etag;
}

/** Ends the name of a file that is not whole yet; no file of a model should end like this. */
const UNFINISHED = '.infermux-part';

/** The rest of a smaller file is not worth asking for: each step on the disk takes as long. */
const WORTH_RESUMING_BYTES = 2 ** 18;

/** A file that is being downloaded, beside its place. What there is of it outlasts the process. */
export class PartialFile {
  readonly #place: string;
  readonly #path: string;

  constructor(place: string) {
    this.#place = place;
    this.#path = `${place}${UNFINISHED}`;
  }

  /** What there is, if the rest can be asked for. */
  async begun(): Promise<{ readonly bytes: number; readonly validator: Validator } | undefined> {
    const found = await stat(this.#path).catch(undefinedIfNotThere);
    if (found === undefined || found.size === 0) return undefined;
    try {
      const validator = JSON.parse((await readTextFile(this.#about)).text) as Validator;
      return strongValidator(validator) === undefined ? undefined : { bytes: found.size, validator };
    } catch {
      return undefined;
    }
  }

  async discard(): Promise<void> {
    await rm(this.#path, { force: true });
    await rm(this.#about, { force: true });
  }

  /**
   * Begins the file anew, or goes on behind what there is.
   *
   * @param total bytes that it is to have; undefined when that is unknown.
   */
  async open(from: 'start' | 'end', validator: Validator, total?: number): Promise<PartialWriter> {
    if (from === 'start') {
      await mkdir(dirname(this.#place), { recursive: true, mode: 0o700 });
      // Not what was said of other contents, if the process ends meanwhile.
      await this.discard();
      const isWorthIt = total === undefined || total >= WORTH_RESUMING_BYTES;
      if (isWorthIt) await writeFile(this.#about, JSON.stringify(validator), { mode: MODE });
    }
    const hash = createHash('sha256');
    let bytes = 0;
    if (from === 'end') {
      for await (const piece of createReadStream(this.#path, { highWaterMark: PIECE_BYTES })) {
        hash.update(piece as Buffer);
        bytes += (piece as Buffer).length;
      }
    }
    const handle = await open(this.#path, 'a', MODE);
    return new PartialWriter(handle, hash, bytes);
  }

  /** The file is whole: puts it in its place. */
  async finish(): Promise<void> {
    await rename(this.#path, this.#place);
    await rm(this.#about, { force: true });
  }

  get #about(): string {
    return `${this.#path}.json`;
  }
}

/** Writes a file to its end, and hashes it. */
export class PartialWriter {
  readonly #handle: Awaited<ReturnType<typeof open>>;
  readonly #hash: Hash;
  #bytes: number;

  constructor(handle: Awaited<ReturnType<typeof open>>, hash: Hash, bytes: number) {
    this.#handle = handle;
    this.#hash = hash;
    this.#bytes = bytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  async write(piece: Uint8Array): Promise<void> {
    this.#hash.update(piece);
    this.#bytes += piece.byteLength;
    await this.#handle.writeFile(piece);
  }

  /** Syncs the file to the disk. @returns its SHA-256. */
  async sync(): Promise<string> {
    await this.#handle.sync();
    return this.#hash.digest('hex');
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}
