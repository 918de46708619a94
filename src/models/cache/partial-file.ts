import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  fsync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { unlinkNow } from '../../common/files/write-file.js';
import { SYNCED_BYTES } from './entry-files.js';

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

/**
 * A file that is being downloaded, beside its place. What there is of it outlasts the process. All but long steps are done
 * at once: the thread of the cache has little else to do, and a step by way of another thread takes ten times as long.
 */
export class PartialFile {
  readonly #place: string;
  readonly #path: string;
  /** Whether there may be something of it. */
  #isBegun = true;

  constructor(place: string) {
    this.#place = place;
    this.#path = `${place}${UNFINISHED}`;
  }

  /** What there is, if the rest can be asked for. */
  begun(): { readonly bytes: number; readonly validator: Validator } | undefined {
    const bytes = statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
    if (bytes === 0) return undefined;
    try {
      const validator = JSON.parse(readFileSync(this.#about, 'utf8')) as Validator;
      return strongValidator(validator) === undefined ? undefined : { bytes, validator };
    } catch {
      return undefined;
    }
  }

  discard(): void {
    if (!this.#isBegun) return;
    unlinkNow(this.#path);
    unlinkNow(this.#about);
    this.#isBegun = false;
  }

  /**
   * Begins the file anew, or goes on behind what there is.
   *
   * @param total bytes that it is to have; undefined when that is unknown.
   */
  async open(from: 'start' | 'end', validator: Validator, total?: number): Promise<PartialWriter> {
    const hash = createHash('sha256');
    let bytes = 0;
    if (from === 'start') {
      // In a new folder there is nothing.
      const created = mkdirSync(dirname(this.#place), { recursive: true, mode: 0o700 });
      // Not what was said of other contents, if the process ends meanwhile.
      if (created === undefined) this.discard();
      const isWorthIt = total === undefined || total >= WORTH_RESUMING_BYTES;
      if (isWorthIt) writeFileSync(this.#about, JSON.stringify(validator), { mode: MODE });
      this.#isBegun = true;
    } else {
      for await (const piece of createReadStream(this.#path, { highWaterMark: PIECE_BYTES })) {
        hash.update(piece as Buffer);
        bytes += (piece as Buffer).length;
      }
    }
    return new PartialWriter(openSync(this.#path, 'a', MODE), hash, bytes);
  }

  /** The file is whole: puts it in its place. */
  finish(): void {
    renameSync(this.#path, this.#place);
    unlinkNow(this.#about);
    this.#isBegun = false;
  }

  get #about(): string {
    return `${this.#path}.json`;
  }
}

/** Writes a file to its end, and hashes it. */
export class PartialWriter {
  readonly #file: number;
  readonly #hash: Hash;
  #bytes: number;

  /** @param file the descriptor of a file to append to. */
  constructor(file: number, hash: Hash, bytes: number) {
    this.#file = file;
    this.#hash = hash;
    this.#bytes = bytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  write(piece: Uint8Array): void {
    this.#hash.update(piece);
    for (let written = 0; written < piece.byteLength; ) written += writeSync(this.#file, piece, written);
    this.#bytes += piece.byteLength;
  }

  /** Syncs the file to the disk, if it is large. @returns its SHA-256. */
  async finish(): Promise<string> {
    if (this.#bytes >= SYNCED_BYTES) await syncFile(this.#file);
    return this.#hash.digest('hex');
  }

  close(): void {
    closeSync(this.#file);
  }
}

const syncFile = promisify(fsync);
