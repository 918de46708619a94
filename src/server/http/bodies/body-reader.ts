import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline, type Readable } from 'node:stream';
import { createGunzip, createInflate } from 'node:zlib';
import { freeBuffers } from '../../../common/values/free-buffers.js';
import { InfermuxError } from '../../../index.js';
import { refusal } from '../../../open-inference/error-statuses.js';
import { copyInto } from '../../../open-inference/raw-tensors.js';

const NOTHING = Buffer.alloc(0);
/** The pieces of a smaller body are joined at its end. */
const JOINED_BYTES = 65_536;
/** Smaller pieces are copied together, if they are more than a few. */
const SMALL_PIECE_BYTES = 4_096;
const FEW_PIECES = 16;
const BLOCK_BYTES = 65_536;
/** Memory of smaller pieces is left to the garbage collector. */
const FREED_BYTES = 16_384;

/** Counts bytes that have arrived, and throws when there are too many. */
export type TakeBytes = (bytes: number) => void;

interface Wanted {
  /** What is filled; undefined: all bytes up to the end are wanted. */
  readonly target: Buffer | undefined;
  filled: number;
  resolve(): void;
  reject(error: unknown): void;
}

/**
 * Reads the body of a request in parts: each part is copied straight from the socket's pieces to where it belongs. While
 * nobody wants a part, the socket is not read.
 */
export class BodyReader {
  /** The bytes that the client says the body has; undefined when it does not say, or when they are compressed. */
  readonly length: number | undefined;
  readonly maxBytes: number;
  readonly #limit: string;
  readonly #take: TakeBytes;
  readonly #stream: Readable;
  /** Whether its pieces are memory of their own, which nobody else has. */
  #ownsPieces = false;
  /** The response to a client that waits until it may send its body. */
  readonly #waiting: ServerResponse | undefined;
  readonly #pieces: Buffer[] = [];
  /** The last of the pieces if it has room for more small ones, and how much of it is in use. */
  #block: Buffer | undefined;
  #used = 0;
  /** What has arrived and nobody has wanted. */
  #rest: Buffer = NOTHING;
  #read = 0;
  #wanted: Wanted | undefined;
  #isReading = false;
  #isEnded = false;
  #failure: unknown;

  /**
   * @param response lets the client send its body, if it waits for that.
   * @param limit what the most bytes are of, for messages.
   * @throws InfermuxError for a body that is too large or of an unknown encoding.
   */
  constructor(
    request: IncomingMessage,
    response: ServerResponse,
    maxBytes: number,
    take: TakeBytes,
    limit = 'limits.bodyBytes',
  ) {
    const { headers } = request;
    const said = headers['content-length'];
    const length = said === undefined ? undefined : Number(said);
    if (length !== undefined && length > maxBytes) throw tooLarge(maxBytes, limit);
    this.maxBytes = maxBytes;
    this.#limit = limit;
    this.#take = take;
    const encoding = headers['content-encoding'];
    this.#stream = encoding === undefined ? request : decoded(request, encoding.toLowerCase());
    this.length = this.#stream === request ? length : undefined;
    if (headers.expect !== undefined) this.#waiting = response;
  }

  /** Reads all of the body. A large one is put together as it arrives. */
  async all(): Promise<Buffer> {
    if (this.length !== undefined && this.length > JOINED_BYTES) {
      const bytes = await this.bytes(this.length);
      await this.end();
      return bytes;
    }
    await this.#want(undefined);
    const { length, 0: first = NOTHING } = this.#pieces;
    return length <= 1 ? first : Buffer.concat(this.#pieces);
  }

  /** Counts memory that what was read takes beside it. @throws InfermuxError when there is too little. */
  takeMore(bytes: number): void {
    this.#take(bytes);
  }

  /** Reads so many bytes. @throws InfermuxError `INVALID_ARGUMENT` for a shorter body. */
  async bytes(count: number): Promise<Buffer> {
    const target = Buffer.allocUnsafeSlow(count);
    await this.fill(target);
    return target;
  }

  /** Fills memory with the next bytes. @throws InfermuxError `INVALID_ARGUMENT` for a shorter body. */
  async fill(target: Uint8Array): Promise<void> {
    const own = Buffer.from(target.buffer, target.byteOffset, target.byteLength);
    const taken = Math.min(own.length, this.#rest.length);
    const rest = this.#rest;
    copyInto(own, taken === rest.length ? rest : rest.subarray(0, taken), 0);
    this.#rest = rest.subarray(taken);
    if (taken === rest.length) this.#free(rest);
    if (taken < own.length) await this.#want(own.subarray(taken));
  }

  /** Waits for the end. @throws InfermuxError `INVALID_ARGUMENT` for a longer body. */
  async end(): Promise<void> {
    if (this.#rest.length === 0) await this.#want(undefined);
    const more = this.#pieces.reduce((sum, { length }) => sum + length, this.#rest.length);
    if (more > 0) throw invalid(`the body has ${more} bytes more than its JSON and its tensors`);
  }

  #want(target: Buffer | undefined): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (this.#isEnded) return target === undefined ? Promise.resolve() : Promise.reject(this.#tooShort());
    return new Promise((resolve, reject) => {
      this.#wanted = { target, filled: 0, resolve, reject };
      if (this.#isReading) this.#stream.resume();
      else this.#begin();
    });
  }

  #begin(): void {
    this.#isReading = true;
    this.#waiting?.writeContinue();
    const stream = this.#stream;
    this.#ownsPieces = arePiecesAlone(stream) && stream.listenerCount('data') === 0;
    stream.on('data', (piece: Buffer) => this.#arrived(piece));
    stream.on('end', () => this.#ended());
    stream.on('error', (error) => this.#failed(notRead(error)));
    // A request that is over when it is looked at says nothing any more.
    if (stream.destroyed) this.#failed(gone());
  }

  #arrived(piece: Buffer): void {
    if (this.#failure !== undefined) return;
    try {
      if (this.#read + piece.length > this.maxBytes) throw tooLarge(this.maxBytes, this.#limit);
      this.#take(piece.length);
    } catch (error) {
      this.#failed(error);
      return;
    }
    this.#read += piece.length;
    const wanted = this.#wanted;
    if (wanted?.target === undefined) {
      if (wanted === undefined) this.#rest = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
      else this.#keep(piece);
      return;
    }
    const taken = Math.min(piece.length, wanted.target.length - wanted.filled);
    copyInto(wanted.target, taken === piece.length ? piece : piece.subarray(0, taken), wanted.filled);
    wanted.filled += taken;
    if (taken < piece.length) this.#rest = piece.subarray(taken);
    else this.#free(piece);
    if (wanted.filled < wanted.target.length) return;
    this.#wanted = undefined;
    this.#stream.pause();
    wanted.resolve();
  }

  /** Keeps a piece. Small ones are copied together: each would keep the memory of the read in which it came. */
  #keep(piece: Buffer): void {
    if (piece.length >= SMALL_PIECE_BYTES || this.#pieces.length < FEW_PIECES) {
      this.#pieces.push(piece);
      this.#block = undefined;
      return;
    }
    if (this.#block === undefined || this.#block.length - this.#used < piece.length) {
      this.#block = Buffer.allocUnsafeSlow(BLOCK_BYTES);
      this.#used = 0;
      this.#pieces.push(this.#block);
    }
    copyInto(this.#block, piece, this.#used);
    this.#used += piece.length;
    this.#pieces[this.#pieces.length - 1] = this.#block.subarray(0, this.#used);
  }

  /**
   * Frees the memory of a piece that has been copied, if nobody else reads the request. Left to the collector, 64 MB of
   * pieces would start a collection of all garbage every few dozens of pictures: a server of 2 cores answered less than
   * half as many requests.
   */
  #free({ buffer }: Buffer): void {
    if (!this.#ownsPieces || buffer.byteLength < FREED_BYTES || this.#stream.listenerCount('data') > 1) return;
    freeBuffers([buffer as ArrayBuffer]);
  }

  #ended(): void {
    this.#isEnded = true;
    const wanted = this.#wanted;
    this.#wanted = undefined;
    if (wanted === undefined) return;
    if (wanted.target === undefined) wanted.resolve();
    else wanted.reject(this.#tooShort());
  }

  #failed(error: unknown): void {
    if (this.#failure !== undefined || this.#isEnded) return;
    this.#failure = error;
    const wanted = this.#wanted;
    this.#wanted = undefined;
    wanted?.reject(error);
  }

  #tooShort(): InfermuxError {
    return invalid(`the body ends after ${this.#read} bytes, before its JSON and its tensors do`);
  }
}

/**
 * Whether the pieces of a stream are copies that Node's parser of HTTP/1 has made, each in memory of its own. Those of
 * HTTP/2 share memory, those of a decoder are parts of a larger one, and those of a test that injects a request are the
 * test's.
 */
function arePiecesAlone(stream: Readable): boolean {
  const { httpVersionMajor, socket } = stream as Partial<IncomingMessage>;
  return httpVersionMajor === 1 && socket !== undefined && 'bytesRead' in socket;
}

/** Returns the body without its compression. */
function decoded(request: IncomingMessage, encoding: string): Readable {
  if (encoding === 'identity' || encoding === '') return request;
  if (encoding !== 'gzip' && encoding !== 'deflate') {
    throw invalid(`Content-Encoding must be gzip, deflate or identity, got ${JSON.stringify(encoding)}`);
  }
  const decoder = encoding === 'gzip' ? createGunzip() : createInflate();
  // Errors reach the reader by the decoder.
  pipeline(request, decoder, () => undefined);
  return decoder;
}

function notRead(error: Error): InfermuxError {
  const { code = '' } = error as NodeJS.ErrnoException;
  if (code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE') return gone();
  return invalid(`the body cannot be read: ${error.message}`);
}

function gone(): InfermuxError {
  return new InfermuxError('CANCELLED', 'the client went away');
}

function tooLarge(maxBytes: number, limit: string): InfermuxError {
  return refusal('too large', `the body must have at most ${maxBytes} bytes (${limit})`);
}

function invalid(message: string): InfermuxError {
  return new InfermuxError('INVALID_ARGUMENT', message);
}
