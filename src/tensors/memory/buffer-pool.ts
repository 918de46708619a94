/** Most bytes that the pool of a quiet engine keeps. */
const MAX_BYTES = 32 * 2 ** 20;

/** Buffers of one size, a power of two. */
interface Shelf {
  readonly size: number;
  readonly buffers: ArrayBuffer[];
  /** Number of the last take of this size. */
  wantedAt: number;
}

/**
 * Buffers that are used again. A new buffer has to be cleared, V8 counts it as memory that a full collection might
 * free, and it has to be collected: for tensors of some kilobytes and more that takes longer than filling it.
 */
export class BufferPool {
  readonly #maxBytes: number;
  readonly #shelves = new Map<number, Shelf>();
  #takes = 0;
  #bytes = 0;

  /** @param maxBytes most bytes that are kept for later. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes that are kept for later. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Returns a buffer of at least this many bytes, which is not cleared. */
  take(bytes: number): ArrayBuffer {
    if (bytes > this.#maxBytes) return new ArrayBuffer(bytes);
    const size = 2 ** (32 - Math.clz32(bytes - 1));
    let shelf = this.#shelves.get(size);
    if (shelf === undefined) {
      shelf = { size, buffers: [], wantedAt: 0 };
      this.#shelves.set(size, shelf);
    }
    this.#takes += 1;
    shelf.wantedAt = this.#takes;
    const buffer = shelf.buffers.pop();
    if (buffer === undefined) return new ArrayBuffer(size);
    this.#bytes -= size;
    return buffer;
  }

  /** Call it once for a taken buffer, when nobody reads or writes it any more. */
  giveBack(buffer: ArrayBuffer): void {
    const { byteLength } = buffer;
    const shelf = this.#shelves.get(byteLength);
    if (shelf === undefined) return;
    shelf.buffers.push(buffer);
    this.#bytes += byteLength;
    if (this.#bytes > this.#maxBytes) this.#dropOverflow();
  }

  /** Drops buffers of the sizes that were not taken for the longest time. */
  #dropOverflow(): void {
    const oldestFirst = [...this.#shelves.values()].sort((left, right) => left.wantedAt - right.wantedAt);
    for (const { size, buffers } of oldestFirst) {
      while (this.#bytes > this.#maxBytes && buffers.pop() !== undefined) this.#bytes -= size;
    }
  }
}

/** The pool for copies that the calling thread makes on the way to a replica. */
export const bufferPool: BufferPool = new BufferPool(MAX_BYTES);
