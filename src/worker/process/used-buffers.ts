/** Most bytes that are kept. */
const MAX_BYTES = 2 ** 24;
/** A smaller buffer is as quickly made. */
const KEPT_FROM_BYTES = 65_536;

/**
 * Buffers of large tensors, used again for tensors of the very same size: a new buffer has to be cleared, and the system
 * gives it page by page. What is in them is overwritten as a whole.
 */
export class UsedBuffers {
  /** The last one was used last. */
  readonly #buffers: ArrayBuffer[] = [];
  #bytes = 0;

  /** Takes over a buffer that nobody reads any more. */
  add(buffer: ArrayBuffer): void {
    if (!UsedBuffers.isWorthwhile(buffer)) return;
    this.#buffers.push(buffer);
    this.#bytes += buffer.byteLength;
    while (this.#bytes > MAX_BYTES) this.#bytes -= this.#buffers.shift()?.byteLength ?? 0;
  }

  take(bytes: number): ArrayBuffer {
    const index = this.#buffers.findLastIndex(({ byteLength }) => byteLength === bytes);
    const [buffer] = index === -1 ? [] : this.#buffers.splice(index, 1);
    if (buffer === undefined) return new ArrayBuffer(bytes);
    this.#bytes -= bytes;
    return buffer;
  }

  static isTooLarge({ byteLength }: ArrayBuffer): boolean {
    return byteLength > MAX_BYTES;
  }

  static isWorthwhile({ byteLength }: ArrayBuffer): boolean {
    return byteLength >= KEPT_FROM_BYTES && byteLength <= MAX_BYTES;
  }
}
