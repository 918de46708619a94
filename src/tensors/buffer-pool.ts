/** What an engine that has become quiet may hold on to. */
const MAX_BYTES = 32 * 2 ** 20;

/** Buffers of one size, a power of two. */
interface Shelf {
  readonly size: number;
  readonly buffers: ArrayBuffer[];
  /** Which take it was that wanted one last. */
  wantedAt: number;
}

/**
 * Buffers that are used again. A new one has to be cleared, is counted by V8 as memory that a full collection might win
 * back, and is collected: for tensors from some kilobytes on that takes longer than to fill it.
 */
export class BufferPool {
  readonly #maxBytes: number;
  readonly #shelves = new Map<number, Shelf>();
  #takes = 0;
  #bytes = 0;

  /** @param maxBytes of all that is kept for later. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes that are kept for later. */
  get bytes(): number {
    return this.#bytes;
  }

  /** A buffer of at least so many bytes, which hold whatever they held. */
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

  /** To be called once for what was taken, when nobody reads or writes it any more. */
  giveBack(buffer: ArrayBuffer): void {
    const { byteLength } = buffer;
    const shelf = this.#shelves.get(byteLength);
    if (shelf === undefined) return;
    shelf.buffers.push(buffer);
    this.#bytes += byteLength;
    if (this.#bytes > this.#maxBytes) this.#dropOverflow();
  }

  /** The sizes that nobody wanted for longest go first. */
  #dropOverflow(): void {
    const oldestFirst = [...this.#shelves.values()].sort((left, right) => left.wantedAt - right.wantedAt);
    for (const { size, buffers } of oldestFirst) {
      while (this.#bytes > this.#maxBytes && buffers.pop() !== undefined) this.#bytes -= size;
    }
  }
}

/** For what the calling thread copies on the way to a replica. */
export const bufferPool: BufferPool = new BufferPool(MAX_BYTES);
