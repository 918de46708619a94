/** SHA-256, in bytes. */
const HASH_BYTES = 32;
/** What was hashed, and what that gave. */
const ENTRY_BYTES = 2 * HASH_BYTES;
const WORD_BYTES = Int32Array.BYTES_PER_ELEMENT;
/** Before the entries: how many were begun. */
const HEADER_BYTES = 64;

/** Memory for so many entries of a {@link HashMemory}. */
export function hashMemory(entries: number): SharedArrayBuffer {
  return new SharedArrayBuffer(HEADER_BYTES + entries * (ENTRY_BYTES + WORD_BYTES));
}

/** Hashes of 32 bytes by keys of 32 bytes, for all threads that share the memory. When it is full, no more are kept. */
export class HashMemory {
  readonly #capacity: number;
  readonly #begun: Int32Array;
  readonly #entries: Uint8Array;
  /** 1 for each entry that is whole. */
  readonly #isWhole: Int32Array;

  constructor(memory: SharedArrayBuffer) {
    this.#capacity = Math.floor((memory.byteLength - HEADER_BYTES) / (ENTRY_BYTES + WORD_BYTES));
    const entriesBytes = this.#capacity * ENTRY_BYTES;
    this.#begun = new Int32Array(memory, 0, 1);
    this.#entries = new Uint8Array(memory, HEADER_BYTES, entriesBytes);
    this.#isWhole = new Int32Array(memory, HEADER_BYTES + entriesBytes, this.#capacity);
  }

  get(key: Uint8Array): Uint8Array | undefined {
    // The last ones are most likely to be asked for.
    for (let index = Math.min(Atomics.load(this.#begun, 0), this.#capacity) - 1; index >= 0; index -= 1) {
      const start = index * ENTRY_BYTES;
      if (Atomics.load(this.#isWhole, index) === 1 && key.every((byte, at) => byte === this.#entries[start + at])) {
        return this.#entries.slice(start + HASH_BYTES, start + ENTRY_BYTES);
      }
    }
    return undefined;
  }

  set(key: Uint8Array, hash: Uint8Array): void {
    const index = Atomics.add(this.#begun, 0, 1);
    if (index >= this.#capacity) {
      Atomics.store(this.#begun, 0, this.#capacity);
      return;
    }
    this.#entries.set(key, index * ENTRY_BYTES);
    this.#entries.set(hash, index * ENTRY_BYTES + HASH_BYTES);
    Atomics.store(this.#isWhole, index, 1);
  }
}
