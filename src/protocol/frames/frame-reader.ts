import {
  APART,
  APART_BYTES,
  APART_FROM_BYTES,
  COUNT_BYTES,
  type Counts,
  type Frame,
  HEADER,
  HEADER_BYTES,
  MOST_BYTES,
} from './frame-format.js';

/** Takes the bytes of frames as they come, and calls back with each frame. */
export class FrameReader {
  readonly #received: (frame: Frame) => boolean;
  readonly #allocate: (bytes: number) => ArrayBuffer;
  /** Bytes of the piece that is read now. */
  #wanted = HEADER_BYTES;
  #filled = 0;
  /** Where the piece is put together; undefined while it may lie in one chunk as a whole. */
  #target: Uint8Array | undefined;
  #read: (piece: Uint8Array) => void = this.#readHeader;
  #counts: Counts = [0, 0, 0];
  #messageBytes = 0;
  #message: Uint8Array | undefined;
  #aparts: Uint8Array[] = [];
  #apartsRead = 0;
  #isStopped = false;

  /**
   * @param received returns whether to read on. A message without large views may lie in the chunk: it is to be read at
   *   once.
   * @param allocate returns memory of exactly so many bytes for a large view; what is in it is overwritten.
   */
  constructor(
    received: (frame: Frame) => boolean,
    allocate: (bytes: number) => ArrayBuffer = (bytes) => new ArrayBuffer(bytes),
  ) {
    this.#received = received;
    this.#allocate = allocate;
  }

  /** Whether the bytes so far end with a frame. */
  get isBetweenFrames(): boolean {
    return this.#read === this.#readHeader && this.#filled === 0;
  }

  /**
   * Reads the bytes until `received` returns false; nothing of the chunk is kept.
   *
   * @returns the bytes that were not read.
   * @throws Error when they are no frame, or memory for it is lacking: then nothing more can be read.
   */
  push(chunk: Uint8Array): Uint8Array {
    this.#isStopped = false;
    let at = 0;
    while (at < chunk.length && !this.#isStopped) {
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
    return chunk.subarray(at);
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
    this.#messageBytes = header.getUint32(HEADER.bytes, true);
    const tableBytes = header.getUint32(HEADER.aparts, true) * APART_BYTES;
    checkBytes(this.#messageBytes + tableBytes);
    if (tableBytes > 0) this.#expect(tableBytes, this.#readTable);
    else if (this.#messageBytes > 0) this.#expect(this.#messageBytes, this.#readMessage);
    else this.#finish();
  }

  #readTable(piece: Uint8Array): void {
    const table = new DataView(piece.buffer, piece.byteOffset, piece.length);
    let bytes = this.#messageBytes;
    for (let at = 0; at < piece.length; at += APART_BYTES) {
      const length = table.getUint32(at + APART.bytes, true);
      // Each costs memory, however short it is.
      if (length < APART_FROM_BYTES)
        throw new RangeError(`an array of ${length} bytes is too short for a place of its own`);
      bytes += length;
      checkBytes(bytes);
    }
    for (let at = 0; at < piece.length; at += APART_BYTES) {
      const length = table.getUint32(at + APART.bytes, true);
      const isShared = table.getUint32(at + APART.isShared, true) !== 0;
      this.#aparts.push(new Uint8Array(isShared ? new SharedArrayBuffer(length) : this.#allocate(length)));
    }
    // A target: it must stay while the views are read.
    this.#expect(this.#messageBytes, this.#readMessage, new Uint8Array(this.#messageBytes));
  }

  #readMessage(piece: Uint8Array): void {
    this.#message = piece;
    this.#readApart();
  }

  #readApart(): void {
    const next = this.#aparts[this.#apartsRead];
    this.#apartsRead += 1;
    if (next === undefined) this.#finish();
    else this.#expect(next.length, this.#readApart, next);
  }

  #finish(): void {
    const frame = { counts: this.#counts, message: this.#message, aparts: this.#aparts };
    this.#message = undefined;
    this.#aparts = [];
    this.#apartsRead = 0;
    this.#expect(HEADER_BYTES, this.#readHeader);
    this.#isStopped = !this.#received(frame);
  }
}

function checkBytes(bytes: number): void {
  if (bytes > MOST_BYTES) throw new RangeError(`a frame of ${bytes} bytes is too long`);
}
