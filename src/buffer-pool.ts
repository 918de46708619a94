/** What an engine that has become quiet may hold on to. */
const MAX_BYTES = 32 * 2 ** 20;

/**
 * Buffers that are used again. A new one has to be cleared, is counted by V8 as memory that a full collection might win
 * back, and is collected: for tensors from some kilobytes on that takes longer than to fill it.
 */
export class BufferPool {
  readonly #maxBytes: number;
  /** By their size, a power of two; the size that was wanted last is last. */
  readonly #free = new Map<number, ArrayBuffer[]>();
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
    const free = this.#free.get(size) ?? [];
    this.#free.delete(size);
    this.#free.set(size, free);
    const buffer = free.pop();
    if (buffer === undefined) return new ArrayBuffer(size);
    this.#bytes -= size;
    return buffer;
  }

  /** To be called once for what was taken, when nobody reads or writes it any more. */
  giveBack(buffer: ArrayBuffer): void {
    const { byteLength } = buffer;
    const free = this.#free.get(byteLength);
    if (free === undefined) return;
    free.push(buffer);
    this.#bytes += byteLength;
    this.#dropOverflow();
  }

  /** The sizes that nobody wanted for longest go first. */
  #dropOverflow(): void {
    for (const [size, free] of this.#free) {
      while (this.#bytes > this.#maxBytes && free.pop() !== undefined) this.#bytes -= size;
      if (this.#bytes <= this.#maxBytes) return;
      this.#free.delete(size);
    }
  }
}

/** For what the calling thread copies on the way to a replica. */
export const bufferPool: BufferPool = new BufferPool(MAX_BYTES);
