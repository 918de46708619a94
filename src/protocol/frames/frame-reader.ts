import { Deserializer } from 'node:v8';
import { SHARED, viewOf } from './array-kinds.js';
import { COUNT_BYTES, type Counts, HEADER, HEADER_BYTES, MOST_BYTES } from './frame-format.js';

/** Takes the bytes of frames as they come, and calls back with each message. */
export class FrameReader {
  readonly #received: (message: unknown, counts: Counts) => void;
  /** Bytes of the piece that is read now. */
  #wanted = HEADER_BYTES;
  #filled = 0;
  /** Where the piece is put together; undefined while it may lie in one chunk as a whole. */
  #target: Uint8Array | undefined;
  #read: (piece: Uint8Array) => void = this.#readHeader;
  #counts: Counts = [0, 0, 0];
  #message: unknown;
  /** The memory that the bytes behind the message belong in. */
  #rest: Uint8Array[] = [];

  /** @param received gets undefined in place of a message when a frame only tells the counts. */
  constructor(received: (message: unknown, counts: Counts) => void) {
    this.#received = received;
  }

  /**
   * Reads the bytes; nothing of the chunk is kept.
   *
   * @throws Error when they are no frame, or memory for it is lacking: then nothing more can be read.
   */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      const end = Math.min(chunk.length, at + this.#wanted - this.#filled);
      const part = chunk.subarray(at, end);
      at = end;
      if (this.#target === undefined) {
        // Most pieces come whole, and are read where they lie.
        if (part.length === this.#wanted) {
          this.#read(part);
          continue;
        }
        this.#target = new Uint8Array(this.#wanted);
      }
      this.#target.set(part, this.#filled);
      this.#filled += part.length;
      if (this.#filled === this.#wanted) this.#read(this.#target);
    }
  }

  #expect(bytes: number, read: (piece: Uint8Array) => void, target?: Uint8Array): void {
    this.#wanted = bytes;
    this.#filled = 0;
    this.#read = read;
    this.#target = target;
  }

  #readHeader(piece: Uint8Array): void {
    const header = new DataView(piece.buffer, piece.byteOffset);
    const count = (index: number) => header.getFloat64(HEADER.counts + index * COUNT_BYTES, true);
    this.#counts = [count(0), count(1), count(2)];
    const bytes = header.getUint32(HEADER.bytes, true);
    if (bytes > MOST_BYTES) throw new RangeError(`a message of ${bytes} bytes is too long`);
    if (bytes === 0) this.#finish();
    else this.#expect(bytes, this.#readMessage);
  }

  #readMessage(piece: Uint8Array): void {
    const deserializer = new FrameDeserializer(piece);
    deserializer.readHeader();
    this.#message = deserializer.readValue();
    this.#rest = deserializer.aparts;
    this.#readRest();
  }

  #readRest(): void {
    const next = this.#rest.shift();
    if (next === undefined) this.#finish();
    else this.#expect(next.length, this.#readRest, next);
  }

  #finish(): void {
    const message = this.#message;
    this.#message = undefined;
    this.#expect(HEADER_BYTES, this.#readHeader);
    this.#received(message, this.#counts);
  }
}

/** Makes each view in memory of its own. The larger ones are still empty: `aparts` are to be filled. */
class FrameDeserializer extends Deserializer {
  readonly aparts: Uint8Array[] = [];
  #bytes = 0;

  /** V8 calls it for each view. */
  _readHostObject(): object {
    const tag = this.readUint32();
    const bytes = this.readDouble();
    this.#bytes += bytes;
    if (!(this.#bytes <= MOST_BYTES)) throw new RangeError(`a message of ${this.#bytes} bytes is too long`);
    const isApart = tag % 2 === 1;
    const kind = tag >>> 1;
    const buffer = kind === SHARED ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
    const target = new Uint8Array(buffer);
    if (isApart) this.aparts.push(target);
    else if (bytes > 0) target.set(this.readRawBytes(bytes));
    return kind === SHARED ? buffer : viewOf(kind, buffer as ArrayBuffer);
  }
}
